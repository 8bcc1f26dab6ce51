package aci

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Lab is what can be done to an emulated service and to no real one.
type Lab interface {
	// Now is the time of the service's clock, which stands still, and Advance
	// moves it.
	Now() time.Time
	Advance(d time.Duration)
	// Arrange makes the service short of something, from the next call on. It
	// replaces what was arranged before.
	Arrange(c Conditions)
	// Fail spoils calls to come.
	Fail(f Failure)
	// End has a container's process end by itself; group is a resource id.
	End(group, container string, exitCode int) error
	// Sicken decides what the probes of a container find.
	Sicken(group, container string, alive, ready bool) error
	// Evict takes a Spot group's machine away. Capacity returns after a minute.
	Evict(group string) error
	// Maintain has the platform restart a group.
	Maintain(group string, exitCode int) error
	// Bills are all stretches of time billed so far.
	Bills() []Bill
	// Network is a client in the virtual network of the groups that have private
	// addresses.
	Network(t *testing.T) *http.Client
	// Stranger is another principal of the same tenant, with the same rights.
	Stranger() (client, secret string)
}

// Conditions are what a service can be short of. The zero value is nothing: the
// published rates and quota hold.
type Conditions struct {
	// NoCapacityFrom refuses groups of so many vCPU or more, in Location only if
	// that is not empty.
	NoCapacityFrom float64
	Location       string
	// Quota replaces the quota; nil is the published one.
	Quota map[string]int
	// NoRates lifts the rates of Azure Resource Manager and of the service.
	NoRates bool
	// RegistryTrouble has the registry fail when a group is put, LatePulls only
	// when its images are pulled.
	RegistryTrouble, LatePulls bool
	// PageSize is the length of a page of a list; zero is the service's own.
	PageSize int
	// Unregistered is a subscription that nobody registered.
	Unregistered bool
}

// Failure spoils calls of one operation of the Swagger.
type Failure struct {
	Operation string
	Calls     int // zero is one
	// After lets the call happen and spoils its answer only.
	After bool
	// Delay passes first, Cut closes the connection, Status is the answer.
	Delay      time.Duration
	Cut        bool
	Status     int
	RetryAfter time.Duration
}

// Bill is one stretch of time that a group is billed for.
type Bill struct {
	Group         string // resource id
	From          time.Time
	To            *time.Time // nil while it goes on
	CPU, MemoryGB float64
	Spot          bool
	// CPUSecond and GBSecond are the prices in USD.
	CPUSecond, GBSecond float64
}

// notRun collects what could not run for want of a Lab.
var notRun struct {
	sync.Mutex
	names []string
}

// openLab is a service with a Lab, whose clock stands still. Without one the
// test is not run, and the end of the run says so.
func openLab(t *testing.T) *service {
	t.Helper()
	s := openStill(t)
	if s.lab == nil {
		notRun.Lock()
		notRun.names = append(notRun.names, t.Name())
		notRun.Unlock()
		t.Skip("NOT RUN: needs a lab, which the real service is none of")
	}
	return s
}

// reportNotRun lists on standard error what was not run.
func reportNotRun() {
	notRun.Lock()
	defer notRun.Unlock()
	if len(notRun.names) == 0 {
		return
	}
	slices.Sort(notRun.names)
	fmt.Fprintf(os.Stderr, "NOT RUN against this service, which is no lab (%d):\n", len(notRun.names))
	for _, name := range notRun.names {
		fmt.Fprintln(os.Stderr, "  "+name)
	}
}
