-- The first user's two tables and sample subscriptions. The example campaign of seed-campaign.txt
-- is for restaurant ...4000 and reaches clients 0 and 2 to 8: eight outputs.
create table subscribers_restaurants (
    id            serial primary key,
    client_id     varchar not null,
    restaurant_id varchar not null
);

create table subscribers_feedback (
    id                          serial primary key,
    restaurant_id               text not null,
    adv_campaign_id             text not null,
    adv_campaign_content        text not null,
    adv_campaign_owner          text not null,
    adv_campaign_owner_contact  text not null,
    adv_campaign_datetime_start int8 not null,
    adv_campaign_datetime_end   int8 not null,
    datetime_created            int8 not null,
    client_id                   text not null,
    trigger_datetime_created    int4 not null,
    feedback                    varchar
);

insert into subscribers_restaurants (client_id, restaurant_id) values
    ('223e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('323e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('423e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('523e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('623e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('723e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('823e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000'),
    ('923e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174001'),
    ('923e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174001'),
    ('023e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-12d3-a456-426614174000');
