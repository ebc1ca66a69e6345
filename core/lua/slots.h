/*
 * slots.h - where in the registry of a state stands what each message needs.
 *
 * Whole numbers: Lua finds them in a fraction of the time that a pointer takes. luaL_ref counts
 * from 1, and there are not so many references.
 */
#ifndef MR_LUA_SLOTS_H
#define MR_LUA_SLOTS_H

enum mr_slot {
    MR_SLOT_ARRAY_META = 1000000, /* json_lua.cc */
    MR_SLOT_NAMES,
    MR_SLOT_PLACEHOLDER_META, /* placeholder.c */
    MR_SLOT_CTX_META,         /* context.c */
    MR_SLOT_CTX,
    MR_SLOT_COLUMNS,  /* template.c, template_row.c */
    MR_SLOT_MESSAGE,  /* script.c */
    MR_SLOT_FUNCTIONS /* script_load.c: as many as there are functions */
};

#endif
