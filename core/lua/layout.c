/*
 * layout.c - see layout.h.
 *
 * One thread. Owns the copies. A small direct-mapped table: two layouts that meet in one entry take
 * turns, which costs time and nothing else. Tests: tests/spec/json_spec.lua (names),
 * tests/spec/template_spec.lua (rows).
 */
#include "lua/layout.h"

#include "base/text.h"

#include <stdlib.h>

static void forget(struct mr_layout *layout)
{
    if (!layout)
        return;
    mr_buf_fini(&layout->copy);
    mr_buf_fini(&layout->json);
    free(layout);
}

void mr_layouts_fini(struct mr_layouts *layouts)
{
    for (size_t i = 0; i < MR_LAYOUTS; i++)
        forget(layouts->entries[i]);
    *layouts = (struct mr_layouts){0};
}

static bool matches(const struct mr_layout *layout, const struct mr_layout_name *names, size_t n)
{
    if (layout->n != n)
        return false;
    const char *copy = layout->copy.ptr;
    for (size_t i = 0; i < n; i++) {
        if (layout->names[i].text != names[i].text || layout->names[i].len != names[i].len ||
            memcmp(copy, names[i].text, names[i].len) != 0)
            return false;
        copy += names[i].len;
    }
    return true;
}

static int compare(const struct mr_layout_name *x, const struct mr_layout_name *y)
{
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static void learn(struct mr_layout *layout, const struct mr_layout_name *names, size_t n)
{
    layout->n = n;
    for (size_t i = 0; i < n; i++) {
        layout->names[i] = names[i];
        mr_buf_put(&layout->copy, names[i].text, names[i].len);
        size_t at = i;
        for (; at > 0 && compare(&names[layout->order[at - 1]], &names[i]) > 0; at--)
            layout->order[at] = layout->order[at - 1];
        layout->order[at] = (uint8_t)i;
    }
    for (size_t i = 0; i < n; i++) {
        const struct mr_layout_name *name = &names[layout->order[i]];
        mr_buf_put_char(&layout->json, i ? ',' : '{');
        mr_text_json_string(&layout->json, name->text, name->len);
        mr_buf_put_char(&layout->json, ':');
        layout->json_end[i] = (uint32_t)layout->json.len;
    }
    mr_buf_put_char(&layout->copy, '\0'); /* names may all be empty: the copy is still somewhere */
}

static size_t entry_of(const struct mr_layout_name *names, size_t n)
{
    uint64_t mixed = n;
    for (size_t i = 0; i < n; i++)
        mixed = (mixed ^ (uintptr_t)names[i].text >> 3) * 0x9e3779b97f4a7c15u;
    return (size_t)(mixed >> 59) % MR_LAYOUTS;
}

struct mr_layout *mr_layout_of(struct mr_layouts *layouts, const struct mr_layout_name *names,
                               size_t n)
{
    if (!n || n > MR_LAYOUT_NAMES)
        return NULL;
    struct mr_layout **entry = &layouts->entries[entry_of(names, n)];
    if (*entry && matches(*entry, names, n))
        return *entry;
    for (size_t i = 0; i < n; i++)
        if (!mr_text_utf8_valid(names[i].text, names[i].len))
            return NULL;
    if (*entry && (*entry)->used)
        return NULL;
    forget(*entry);
    *entry = mr_calloc(1, sizeof **entry);
    learn(*entry, names, n);
    return *entry;
}

static bool is_named(const char *column, const struct mr_layout_name *name)
{
    return strlen(column) == name->len && memcmp(column, name->text, name->len) == 0;
}

bool mr_layout_is_row(struct mr_layout *layout, const struct mr_row_schema *rows,
                      struct mr_column_set *set)
{
    struct mr_layout_name own[MR_LAYOUT_NAMES];
    const char *copy = layout->copy.ptr;
    for (size_t i = 0; i < layout->n; i++) {
        own[i] = (struct mr_layout_name){copy, layout->names[i].len};
        copy += own[i].len;
    }
    set->n = 0;
    for (uint16_t c = 0; c < rows->n; c++) {
        const struct mr_row_column *column = &rows->columns[c];
        size_t i = 0;
        while (i < layout->n && !is_named(column->name, &own[i]))
            i++;
        if (i < layout->n) {
            layout->slots[set->n] = (uint8_t)i;
            set->columns[set->n++] = c;
        } else if (column->not_null && !column->has_default && !column->generated) {
            return false;
        }
    }
    return set->n == layout->n;
}
