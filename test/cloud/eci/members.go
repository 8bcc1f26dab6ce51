package eci

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// member is one node of a request's members: a scalar, a struct or a list.
type member struct {
	path     string // the wire name
	value    string
	present  bool // a scalar was sent, if only an empty one
	children map[string]*member
}

// parseMembers builds the tree of dotted wire names.
func parseMembers(form url.Values) *member {
	root := &member{}
	for name, values := range form {
		at := root
		for _, part := range strings.Split(name, ".") {
			next := at.children[part]
			if next == nil {
				if at.children == nil {
					at.children = map[string]*member{}
				}
				path := part
				if at.path != "" {
					path = at.path + "." + part
				}
				next = &member{path: path}
				at.children[part] = next
			}
			at = next
		}
		at.value, at.present = values[0], true
	}
	return root
}

// get follows a dotted path and returns an empty node where it leads nowhere.
func (m *member) get(path string) *member {
	for _, part := range strings.Split(path, ".") {
		m = m.children[part]
		if m == nil {
			return &member{}
		}
	}
	return m
}

func (m *member) str(path string) string { return m.get(path).value }

// has reports whether anything was sent at or below a path.
func (m *member) has(path string) bool {
	n := m.get(path)
	return n.present || len(n.children) > 0
}

// The number and truth of a member that the schema has checked; absent is zero.
func (m *member) integer(path string) int {
	n, _ := strconv.Atoi(m.str(path))
	return n
}

func (m *member) number(path string) float64 {
	f, _ := strconv.ParseFloat(m.str(path), 64)
	return f
}

func (m *member) boolean(path string) bool { return m.str(path) == "true" }

// list returns the elements of a repeated member, in order.
func (m *member) list(path string) []*member { return m.get(path).elements() }

func (m *member) elements() []*member {
	var out []*member
	for i := 1; ; i++ {
		e := m.children[strconv.Itoa(i)]
		if e == nil {
			return out
		}
		out = append(out, e)
	}
}

// strings returns the elements of a repeated scalar; nil if none was sent.
func (m *member) strings(path string) []string {
	var out []string
	for _, e := range m.list(path) {
		out = append(out, e.value)
	}
	return out
}

// check compares a request with the published shape of its action. Members
// that are not published are ignored, as the service does.
func (s *memberMeta) check(m *member) *apiError {
	if s.Type == "array" {
		return s.checkList(m)
	}
	if s.Type == "" && len(s.fields) > 0 {
		if m.present && m.value != "" {
			return invalidParameter("%s is a structure and cannot have the value %q.", m.path, clip(m.value))
		}
		for _, name := range s.order {
			f := s.fields[name]
			c := m.children[name]
			if c == nil || (f.Type != "array" && len(f.fields) == 0 && c.value == "") {
				if f.Required {
					return missingParameter(childPath(m, f, name))
				}
				if c == nil {
					continue
				}
			}
			if err := f.check(c); err != nil {
				return err
			}
		}
		return nil
	}
	return s.checkScalar(m)
}

func childPath(m *member, f *memberMeta, name string) string {
	path := name
	if m.path != "" {
		path = m.path + "." + name
	}
	if f.Type == "array" {
		path += ".1"
	}
	return path
}

// checkList refuses gaps: elements are 1, 2, 3 and so on.
func (s *memberMeta) checkList(m *member) *apiError {
	if m.present {
		return invalidParameter("%s is a list; its elements are sent as %s.1, %s.2 and so on.", m.path, m.path, m.path)
	}
	n := len(m.children)
	if s.Required && n == 0 {
		return missingParameter(m.path + ".1")
	}
	if s.MaxItems > 0 && n > s.MaxItems {
		return invalidParameter("%s has %d elements; at most %d are allowed.", m.path, n, s.MaxItems)
	}
	for i := 1; i <= n; i++ {
		c := m.children[strconv.Itoa(i)]
		if c == nil {
			return invalidParameter("%s has %d elements but no %s.%d; the elements of a list are numbered from 1 without gaps.", m.path, n, m.path, i)
		}
		if err := s.item.check(c); err != nil {
			return err
		}
		if limit, ok := bound(s.Maximum); ok && utf8.RuneCountInString(c.value) > int(limit) {
			return invalidParameter("%s is longer than %s characters.", c.path, s.Maximum)
		}
	}
	return nil
}

func (s *memberMeta) checkScalar(m *member) *apiError {
	if len(m.children) > 0 {
		return invalidParameter("%s is a single value and has no members of its own.", m.path)
	}
	if m.value == "" {
		return nil
	}
	size, what := 0.0, "value"
	switch s.Type {
	case "integer":
		bits := 64
		if s.Format == "int32" {
			bits = 32
		}
		n, err := strconv.ParseInt(m.value, 10, bits)
		if err != nil {
			return invalidParameter("%s must be an integer of %d bits, not %q.", m.path, bits, clip(m.value))
		}
		size = float64(n)
	case "number":
		f, err := strconv.ParseFloat(m.value, 64)
		if err != nil || f != f || f > 1e12 || f < -1e12 {
			return invalidParameter("%s must be a number, not %q.", m.path, clip(m.value))
		}
		size = f
	case "boolean":
		if m.value != "true" && m.value != "false" {
			return invalidParameter("%s must be true or false, not %q.", m.path, clip(m.value))
		}
	default:
		size, what = float64(utf8.RuneCountInString(m.value)), "length"
	}
	if limit, ok := bound(s.Minimum); ok && size < limit {
		return invalidParameter("The %s of %s is below its minimum of %s.", what, m.path, s.Minimum)
	}
	if limit, ok := bound(s.Maximum); ok && size > limit {
		return invalidParameter("The %s of %s is above its maximum of %s.", what, m.path, s.Maximum)
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, m.value) {
		return invalidParameter("%s must be one of %s.", m.path, strings.Join(s.Enum, ", "))
	}
	return nil
}

// clip keeps messages short and free of whole secrets.
func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// formattedSlice is what version 1 of the Go SDK sends for a list that it does
// not know how to encode. The service has no use for it.
const formattedSlice = "<[]string Value>"

func refuseFormattedSlices(form url.Values) *apiError {
	for name, values := range form {
		if slices.Contains(values, formattedSlice) {
			return invalidParameter("%s has the value %s, which is no list; send its elements as %s.1, %s.2 and so on.", name, formattedSlice, name, name)
		}
	}
	return nil
}
