package policy

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Account is what limits bound: what the pods that a policy selects take of all
// virtual nodes or, with a Target, of that target's.
type Account struct {
	Policy Ref
	// Target is the name of one of the policy's targets, "" for all virtual nodes.
	Target string
}

// Charge is what one pod takes of an account.
type Charge struct {
	Account Account
	Amount  Amount
}

// String is the form in which an account is kept: KIND/NAME#TARGET for cluster
// scope, KIND/NAMESPACE/NAME#TARGET otherwise, without #TARGET for all virtual
// nodes.
func (a Account) String() string {
	s := a.Policy.Kind + "/"
	if a.Policy.Namespace != "" {
		s += a.Policy.Namespace + "/"
	}
	s += a.Policy.Name
	if a.Target != "" {
		s += "#" + a.Target
	}
	return s
}

// ParseAccount reads what String wrote.
func ParseAccount(s string) (Account, error) {
	policy, target, _ := strings.Cut(s, "#")
	parts := strings.Split(policy, "/")
	a := Account{Target: target}
	switch {
	case len(parts) == 2 && parts[0] == KindClusterPolicy:
		a.Policy = Ref{Kind: parts[0], Name: parts[1]}
	case len(parts) == 3 && parts[0] == KindPolicy:
		a.Policy = Ref{Kind: parts[0], Namespace: parts[1], Name: parts[2]}
	default:
		return Account{}, fmt.Errorf("reading the account %q: want KIND/NAME or KIND/NAMESPACE/NAME of a policy", s)
	}
	return a, nil
}

// MarshalText implements encoding.TextMarshaler, so that accounts are keys of
// JSON objects.
func (a Account) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Account) UnmarshalText(b []byte) (err error) {
	*a, err = ParseAccount(string(b))
	return err
}

// describe names the account in a message.
func (a Account) describe() string {
	if a.Target == "" {
		return a.Policy.describe()
	}
	return "target " + a.Target + " of " + a.Policy.describe()
}

// Plus is the sum.
func (a Amount) Plus(b Amount) Amount {
	return Amount{a.Pods + b.Pods, a.MilliCPU + b.MilliCPU, a.Memory + b.Memory}
}

// Minus is the difference, which may be negative.
func (a Amount) Minus(b Amount) Amount {
	return Amount{a.Pods - b.Pods, a.MilliCPU - b.MilliCPU, a.Memory - b.Memory}
}

// Max is the larger of each resource.
func (a Amount) Max(b Amount) Amount {
	return Amount{max(a.Pods, b.Pods), max(a.MilliCPU, b.MilliCPU), max(a.Memory, b.Memory)}
}

// Min is the smaller of each resource.
func (a Amount) Min(b Amount) Amount {
	return Amount{min(a.Pods, b.Pods), min(a.MilliCPU, b.MilliCPU), min(a.Memory, b.Memory)}
}

// Within is true when no resource is more than that of b.
func (a Amount) Within(b Amount) bool {
	return a.Pods <= b.Pods && a.MilliCPU <= b.MilliCPU && a.Memory <= b.Memory
}

// Allow is true when the amount is within the limits.
func (l Limits) Allow(a Amount) bool { return a.Within(Amount(l)) }

// Left is what the limits leave beside what is used, not less than zero; an
// unlimited resource stays unlimited.
func (l Limits) Left(used Amount) Amount {
	left := func(limit, used int64) int64 {
		if limit == Unlimited {
			return Unlimited
		}
		return max(0, limit-used)
	}
	return Amount{left(l.Pods, used.Pods), left(l.MilliCPU, used.MilliCPU), left(l.Memory, used.Memory)}
}

// Over names the first resource of which used and more together exceed the
// limits, with the figures as users write them.
func (l Limits) Over(used, more Amount) (what, usedText, limitText string, over bool) {
	switch {
	case used.Pods+more.Pods > l.Pods:
		return "pods", fmt.Sprint(used.Pods), fmt.Sprint(l.Pods), true
	case used.MilliCPU+more.MilliCPU > l.MilliCPU:
		return "cpu", CPU(used.MilliCPU), CPU(l.MilliCPU), true
	case used.Memory+more.Memory > l.Memory:
		return "memory", Memory(used.Memory), Memory(l.Memory), true
	}
	return "", "", "", false
}

// CPU is thousandths of a core as users write them.
func CPU(milli int64) string { return resource.NewMilliQuantity(milli, resource.DecimalSI).String() }

// Memory is bytes as users write them.
func Memory(bytes int64) string { return resource.NewQuantity(bytes, resource.BinarySI).String() }
