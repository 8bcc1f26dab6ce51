package burstable

import (
	"fmt"
	"strconv"
)

// anyCloud marks a rule that no cloud fulfils.
const anyCloud Feature = ""

// rule says what one use of a field needs. Rules of a table are asked in order.
type rule[T any] struct {
	// field is the path below the object, without its index.
	field string
	// used tells whether the object makes use of the field in this way.
	used func(*T) bool
	// need is the feature that carries it out, anyCloud if there is none.
	need Feature
	// why completes the sentence that begins with the cloud's name.
	why string
}

// path is where the walk is. It lives on the stack; nothing is put together
// until a field is refused.
type path struct {
	parent *path
	name   string
	index  int // -1: not an element of a list
}

// checker collects refusals.
type checker struct {
	caps     Capabilities
	refusals []Refusal
	// shareClaims are the claims that the pod says are shares of Azure Files.
	shareClaims []string
	// podIPs is the first field that asks for all addresses of the pod.
	podIPs string
}

// apply asks every rule of a table about one object.
func apply[T any](c *checker, at *path, rules []rule[T], obj *T) {
	for i := range rules {
		r := &rules[i]
		switch {
		case !r.used(obj):
		case r.need == anyCloud:
			c.never(at, r.field, r.why)
		case !c.caps.Has(r.need):
			c.lacks(at, r.field, r.why)
		}
	}
}

// never records that no virtual node does what field asks for. why completes
// the sentence.
func (c *checker) never(at *path, field, why string) {
	c.refusals = append(c.refusals, Refusal{Field: at.child(field), Message: "A virtual node " + why + "."})
}

// lacks records that this cloud does not do what field asks for.
func (c *checker) lacks(at *path, field, why string) {
	if c.caps.Provider == "" {
		c.never(at, field, why)
		return
	}
	c.refusals = append(c.refusals, Refusal{
		Field:   at.child(field),
		Message: "The cloud " + strconv.Quote(c.caps.Provider) + " " + why + ".",
	})
}

// bound records it when more of something is there than the cloud allows; a
// bound of zero is none.
func (c *checker) bound(at *path, field, what string, have, most int) {
	if most > 0 && have > most {
		c.lacks(at, field, fmt.Sprintf("allows at most %d %s; there are %d", most, what, have))
	}
}

// child is the path of a field below p, as kubectl explain writes it.
func (p *path) child(field string) string {
	b := p.appendTo(nil)
	if field != "" {
		b = append(append(b, '.'), field...)
	}
	return string(b)
}

// appendTo copies the names byte by byte, so that escape analysis sees that no
// path outlives the walk.
func (p *path) appendTo(b []byte) []byte {
	if p.parent != nil {
		b = append(p.parent.appendTo(b), '.')
	}
	b = append(b, p.name...)
	if p.index >= 0 {
		b = append(strconv.AppendInt(append(b, '['), int64(p.index), 10), ']')
	}
	return b
}
