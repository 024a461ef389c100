/*
 * What may stand behind the type in a table's name, where that is no path. Read by config.c. Pure.
 */
#ifndef JAILMAP_POLICY_CONFIG_TABLE_H
#define JAILMAP_POLICY_CONFIG_TABLE_H

#include "policy/table_type.h"

/* Returns NULL, or a constant text: what is wrong with it, and what is expected. What is a path is
 * not looked at. */
const char *config_table_name(const struct table_type_info *type, const char *argument);

#endif
