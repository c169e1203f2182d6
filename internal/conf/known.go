package conf

import (
	"reflect"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/mistyped"
)

// meantKeys are the names near the first part of path that has no field in its table.
// The library gives the path of a key in an inline table from that table on, and not
// which one that is, so where the document itself has nothing near all tables are asked.
func meantKeys(into reflect.Type, path []string) []string {
	table := into
	for i, part := range path {
		names, below := fields(table)
		at := slices.Index(names, part)
		if at >= 0 {
			table = below[at]
			continue
		}
		meant := mistyped.Meant(part, names)
		if i == 0 && meant == nil {
			meant = mistyped.Meant(part, allNames(into, MaxDepth))
		}
		return meant
	}
	return nil
}

// fields are the keys of the table that decodes into t, with the types of their values.
func fields(t reflect.Type) (names []string, types []reflect.Type) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, nil
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("toml"), ","); name != "" && name != "-" {
			names, types = append(names, name), append(types, f.Type)
		}
	}
	return names, types
}

// allNames are the keys of the table and of those in it, depth levels down: a type may
// hold itself.
func allNames(t reflect.Type, depth int) []string {
	names, types := fields(t)
	for _, below := range types {
		if depth > 0 {
			names = append(names, allNames(below, depth-1)...)
		}
	}
	return names
}
