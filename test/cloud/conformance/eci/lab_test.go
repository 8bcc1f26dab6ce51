package eci

import (
	"strconv"
	"strings"
	"time"
)

// Lab is what a bench can do to an account that a caller of the real service
// cannot: turn its clock, take its stock away, spoil its answers, read its bill.
type Lab interface {
	Now() time.Time
	// Pass turns the clock on.
	Pass(d time.Duration)

	// Shortages are all shortages of machines from now on, SpotPrices all prices
	// per hour that the spot market has of its own.
	Shortages(...Shortage)
	SpotPrices(...SpotPrice)
	// Quota is the vCPU quota of the account in each region.
	Quota(vCPU float64)
	// Arrears says whether the account has an outstanding payment.
	Arrears(bool)
	// Rates throttles by a published profile and answers the code.
	Rates(profile, code string)
	// Break spoils one call.
	Break(Fault)

	// Inactive and Temporary are other keys of the account.
	Inactive() credentials
	Temporary() credentials
	// VSwitches are those of the region, the default one first.
	VSwitches() []VSwitch

	// Exit ends a container's process, Print has it print lines.
	Exit(group, container string, code int)
	Print(group, container string, lines ...string)
	// Bills are all stretches of time that were billed, in order.
	Bills() []Bill
}

// Shortage is a lack of machines; empty members match everything.
type Shortage struct {
	Zone, InstanceType string
	SpotOnly           bool
	// Late lets the create call pass.
	Late bool
}

// SpotPrice is a price of the spot market in CNY per hour.
type SpotPrice struct {
	Zone, InstanceType string
	PerHour            float64
}

// The published profiles of flow control, and none.
const (
	noRates     = ""
	quotaRates  = "quota page"
	bucketRates = "limits page"
)

// Fault is how one call of an action goes wrong: an error code, a body that is no
// error of the service, a cut connection, or only a delay.
type Fault struct {
	Action      string
	AfterEffect bool
	Delay       time.Duration
	Status      int
	Code        string
	Body        string
	Cut         bool
}

// VSwitch is one subnet with the number of addresses that groups can have.
type VSwitch struct {
	ID, Zone, VPC string
	Contains      func(ip string) bool
	Addresses     int
}

// Bill is one stretch of time for which a group was billed.
type Bill struct {
	Group       string
	CPU, Memory float64
	Spot        bool
	From, To    time.Time // To is zero while it goes on
	Seconds     int
}

// settings are what the vendor does not publish, or publishes twice.
type settings struct {
	timestampWindow      time.Duration
	tokenRetention       time.Duration
	statusInMetadataCase bool
	logNeedsRunning      bool
	maxURL               int
	pageSize             int
	spotNotice           time.Duration
	arrearsGrace         time.Duration
	maxImageCaches       int
	// realProcesses has containers run where commands can be run in them.
	realProcesses bool
}

// program is what a container runs: a script for a real one, and what the script
// does for a simulated one.
type program struct {
	script string
	prints []string
	ends   bool
	after  time.Duration
	code   int
	// ignores is for how long SIGTERM does not end it.
	ignores time.Duration
}

// in are the members of a container that runs the program.
func (p program) in(container string) []string {
	return []string{container + ".Command.1", "sh", container + ".Command.2", "-c", container + ".Command.3", p.script}
}

// The programs of this suite.
var (
	crashes = program{script: "sleep 1; exit 3", ends: true, after: time.Second, code: 3}
	fails   = program{script: "sleep 2; exit 5", ends: true, after: 2 * time.Second, code: 5}
	ends    = program{script: "sleep 2", ends: true, after: 2 * time.Second}
	works   = program{script: "sleep 20", ends: true, after: 20 * time.Second}
	stays   = program{script: "trap '' TERM; while true; do sleep 1; done", ignores: 24 * time.Hour}
	counts  = program{script: "seq 1 2500; sleep 3600", prints: numbers(2500, "")}
	// Long lines: 2000 of 700 characters and more are over 1 MB.
	shouts = program{
		script: "for i in $(seq 1 2000); do echo $i" + filler + "; done; sleep 3600", prints: numbers(2000, filler),
	}
	speaks = program{script: "echo first; sleep 3; exit 1", prints: []string{"first"}, ends: true, after: 3 * time.Second, code: 1}

	programs = []program{crashes, fails, ends, works, stays, counts, shouts, speaks}
)

var filler = strings.Repeat("=", 700)

func numbers(n int, suffix string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(i+1) + suffix
	}
	return out
}
