package sim

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// BillingPath is where the emulated clouds serve their Ledger, outside the
// paths of the real services.
const BillingPath = "/_emulator/billing"

// Ledger is a cloud's own record of what it bills and of every call that
// changed something. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	entries []*BillingEntry
	calls   []Call
}

// BillingEntry is one stretch of time that a group is billed for. A group that
// is stopped and started again has several.
type BillingEntry struct {
	Cloud     string            `json:"cloud"`
	GroupID   string            `json:"groupId"`
	Name      string            `json:"name"`
	Region    string            `json:"region,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	CPU       float64           `json:"cpu"`       // vCPU, as rounded by the cloud
	MemoryGiB float64           `json:"memoryGiB"` // as rounded by the cloud
	Spot      bool              `json:"spot"`
	Price     *Price            `json:"price,omitempty"`
	From      time.Time         `json:"from"` // start of the first pull
	// To is when the group ended, was stopped or deleted; nil while it is billed.
	To *time.Time `json:"to,omitempty"`
}

// Price is what the parts of a group cost per second.
type Price struct {
	Currency  string  `json:"currency"`
	CPU       float64 `json:"cpu"`       // per vCPU
	MemoryGiB float64 `json:"memoryGiB"` // per GiB, or GB where the cloud counts so
}

// Cost is the amount billed at now, in the currency of the entry's price; 0
// without a price.
func (e BillingEntry) Cost(now time.Time) float64 {
	if e.Price == nil {
		return 0
	}
	return (e.CPU*e.Price.CPU + e.MemoryGiB*e.Price.MemoryGiB) * e.Duration(now).Seconds()
}

// Duration is the billed time at now, in whole seconds as the clouds bill it.
func (e BillingEntry) Duration(now time.Time) time.Duration {
	to := now
	if e.To != nil {
		to = *e.To
	}
	if to.Before(e.From) {
		return 0
	}
	return to.Truncate(time.Second).Sub(e.From.Truncate(time.Second))
}

// Call is one state-changing API call, as the cloud received and answered it.
type Call struct {
	Time      time.Time `json:"time"`
	Cloud     string    `json:"cloud"`
	Principal string    `json:"principal"`        // access key id, client id
	Action    string    `json:"action"`           // CreateContainerGroup, PUT containerGroups
	Target    string    `json:"target,omitempty"` // group id or name
	RequestID string    `json:"requestId,omitempty"`
	Code      string    `json:"code"` // OK or the cloud's error code
}

// Record is all of a Ledger, as it is served at BillingPath.
type Record struct {
	Entries []BillingEntry `json:"entries"`
	Calls   []Call         `json:"calls"`
}

// Open returns the entries that are still billed.
func (r Record) Open() []BillingEntry {
	return slices.DeleteFunc(slices.Clone(r.Entries), func(e BillingEntry) bool { return e.To != nil })
}

// Audit records one state-changing call.
func (l *Ledger) Audit(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
}

// Record returns a copy of everything recorded so far.
func (l *Ledger) Record() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Record{Entries: make([]BillingEntry, len(l.entries)), Calls: slices.Clone(l.calls)}
	for i, e := range l.entries {
		r.Entries[i] = *e
		r.Entries[i].Tags = maps.Clone(e.Tags)
		if e.To != nil {
			to := *e.To
			r.Entries[i].To = &to
		}
	}
	if r.Calls == nil {
		r.Calls = []Call{}
	}
	return r
}

// open starts billing a group.
func (l *Ledger) open(s Spec, from time.Time) *BillingEntry {
	e := &BillingEntry{
		Cloud: s.Cloud, GroupID: s.ID, Name: s.Name, Region: s.Region, Tags: maps.Clone(s.Tags),
		CPU: s.CPU, MemoryGiB: s.MemoryGiB, Spot: s.Spot, Price: s.Price, From: from,
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return e
}

// close ends an entry; nil is allowed.
func (l *Ledger) close(e *BillingEntry, to time.Time) {
	if e == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.To == nil {
		e.To = &to
	}
}
