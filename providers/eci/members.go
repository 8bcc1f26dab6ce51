package eci

import "strconv"

// members are the members of one request, by their wire names: lists are
// numbered from 1, structs are dotted.
type members struct {
	values map[string]string
	// sensitive are values that must not get into an error.
	sensitive []string
}

func newMembers() members { return members{values: map[string]string{}} }

// set adds a member; an empty value is not sent.
func (m members) set(name, value string) {
	if value != "" {
		m.values[name] = value
	}
}

func (m members) integer(name string, v int64) { m.values[name] = strconv.FormatInt(v, 10) }

func (m members) boolean(name string, v bool) { m.values[name] = strconv.FormatBool(v) }

// count adds a number that says something only above zero, flag a truth.
func (m members) count(name string, v int64) {
	if v > 0 {
		m.integer(name, v)
	}
}

func (m members) flag(name string, v bool) {
	if v {
		m.boolean(name, true)
	}
}

// float writes plain decimals without needless zeros.
func (m members) float(name string, v float64) {
	m.values[name] = strconv.FormatFloat(v, 'f', -1, 64)
}

// list adds the elements NAME.1, NAME.2 and so on.
func (m members) list(name string, values []string) {
	for i, v := range values {
		m.values[element(name, i)] = v
	}
}

// secret adds a member whose value must not get into an error.
func (m *members) secret(name, value string) {
	m.set(name, value)
	m.hide(value)
}

func (m *members) hide(value string) {
	if value != "" {
		m.sensitive = append(m.sensitive, value)
	}
}

// secrets are all that must not get into an error of a call with this key.
func (m members) secrets(key Credentials) []string {
	out := make([]string, 0, len(m.sensitive)+3)
	for _, s := range []string{key.AccessKeySecret, key.SecurityToken, key.AccessKeyID} {
		if s != "" {
			out = append(out, s)
		}
	}
	return append(out, m.sensitive...)
}

// element is the wire name of the i-th element, counted from 0.
func element(name string, i int) string { return name + "." + strconv.Itoa(i+1) }
