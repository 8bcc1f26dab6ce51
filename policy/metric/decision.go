package metric

// Decision are the labels of decisions about pods: action, reason, and the kind of
// what decided, which is empty where nothing did.
func Decision[A, R ~string](actions []A, reasons []R, kinds []string) []Label {
	return []Label{
		{Name: "action", Values: Texts(actions...)},
		Reason(reasons),
		{Name: "policy_kind", Values: append([]string{""}, kinds...)},
	}
}

// Reason is the label of the reason of a decision.
func Reason[R ~string](reasons []R) Label {
	return Label{Name: "reason", Values: Texts(reasons...), See: "[reasons](reasons.md)"}
}
