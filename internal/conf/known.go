package conf

import (
	"reflect"
	"slices"
	"strings"

	"github.com/tucdesk/tucdesk/internal/mistyped"
)

// meantKeys are the names near the first part of path that has no field in its table, and
// where none is near, in table, all that the table has. The library gives the path of a
// key in an inline table from that table on, and not which one that is, so where the
// document itself has nothing near all tables are asked, and none is listed.
func meantKeys(into reflect.Type, path []string) (meant, table []string) {
	at := into
	for i, part := range path {
		names, below := fields(at)
		if n := slices.Index(names, part); n >= 0 {
			at = below[n]
			continue
		}
		meant = mistyped.Meant(part, names)
		switch {
		case meant != nil:
			return meant, nil
		case i > 0:
			return nil, names
		}
		return mistyped.Meant(part, allNames(into, MaxDepth)), nil
	}
	return nil, nil
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
