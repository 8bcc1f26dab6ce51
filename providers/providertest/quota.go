package providertest

import (
	"testing"
	"time"

	"github.com/autoburst/autoburst/providers/quota"
)

// Unbounded is an account without bounds on a clock that runs a thousand times
// faster, so that a test need not wait as long as its faults ask.
func Unbounded(t testing.TB, plan quota.Plan) *quota.Account {
	t.Helper()
	account, err := quota.New(plan, quota.Unlimited(), NewFastClock(1000), nil)
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// Reopen waits until no throttled answer of the past holds calls back.
func Reopen(account *quota.Account) {
	for {
		var closed time.Duration
		for _, s := range account.States() {
			closed = max(closed, s.Closed)
		}
		if closed == 0 {
			return
		}
		<-time.After(time.Millisecond)
	}
}
