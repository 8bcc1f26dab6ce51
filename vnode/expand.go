package vnode

import "strings"

// expand replaces each $(NAME) in a text by what lookup returns for NAME. As in
// the kubelet, $$ is a literal $, so that $$(NAME) is not replaced, and a
// reference that lookup does not know stays as it is written.
func expand(text string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(text, '$')
		if i < 0 || i+1 == len(text) {
			b.WriteString(text)
			return b.String()
		}
		b.WriteString(text[:i])
		switch text[i+1] {
		case '$':
			b.WriteByte('$')
			text = text[i+2:]
		case '(':
			end := strings.IndexByte(text[i:], ')')
			if end < 0 {
				// An opening without an end is text, and so is what follows it.
				b.WriteString("$(")
				text = text[i+2:]
				continue
			}
			name := text[i+2 : i+end]
			if value, ok := lookup(name); ok {
				b.WriteString(value)
			} else {
				b.WriteString(text[i : i+end+1])
			}
			text = text[i+end+1:]
		default:
			b.WriteString(text[i : i+2])
			text = text[i+2:]
		}
	}
}
