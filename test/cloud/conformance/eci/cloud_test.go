package eci

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	endpoint      = flag.String("endpoint", "", "base URL of the service under test; empty is the emulator")
	region        = flag.String("region", "cn-hangzhou", "region of the service under test")
	vSwitch       = flag.String("vswitch", "", "vSwitch for groups; empty is the region's default")
	securityGroup = flag.String("securitygroup", "", "security group for groups; empty is the default")
	image         = flag.String("image", "registry-vpc.cn-hangzhou.aliyuncs.com/eci_open/busybox:1.30", "image with sh, sleep and seq")
)

// cloud is the service under test, as one test sees it.
type cloud struct {
	t           *testing.T
	url, region string
	key         credentials
	http        *http.Client
	lab         Lab // nil where the service has none
	common      []string
}

// now is the cloud's time.
func (c *cloud) now() time.Time {
	if c.lab != nil {
		return c.lab.Now()
	}
	return time.Now()
}

// pass lets time pass: at once where there is a clock to turn.
func (c *cloud) pass(d time.Duration) {
	if c.lab != nil {
		c.lab.Pass(d)
		return
	}
	<-time.After(d)
}

// small are the members of the smallest useful group: one container that sleeps.
func (c *cloud) small(more ...string) []string {
	return slices.Concat([]string{
		"ContainerGroupName", "conformance", "Container.1.Name", "main", "Container.1.Image", *image,
		"Container.1.Command.1", "sleep", "Container.1.Command.2", "3600",
	}, c.common, more)
}

// row is the service under test for the row of a test: the emulator, new and with
// settings, or the service that the flags name.
func row(t *testing.T, s ...settings) *cloud {
	t.Helper()
	results.ran(t.Name())
	if *endpoint == "" {
		return newEmulator(t, append(s, settings{})[0])
	}
	c := &cloud{
		t: t, url: strings.TrimSuffix(*endpoint, "/"), region: *region, http: &http.Client{Timeout: time.Minute},
		key: credentials{os.Getenv("ECI_ACCESS_KEY_ID"), os.Getenv("ECI_ACCESS_KEY_SECRET"), os.Getenv("ECI_SECURITY_TOKEN")},
	}
	if *vSwitch != "" {
		c.common = append(c.common, "VSwitchId", *vSwitch)
	}
	if *securityGroup != "" {
		c.common = append(c.common, "SecurityGroupId", *securityGroup)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

// needLab leaves a test out, by name, where the service under test has no lab.
func needLab(t *testing.T, need string) {
	t.Helper()
	if *endpoint != "" {
		results.leftOut(t.Name(), need)
		t.Skip("needs a lab: " + need)
	}
}

// labRow is the service under test for a row that needs a lab for something.
// Without a lab the row does not count as one that ran.
func labRow(t *testing.T, need string, s ...settings) *cloud {
	t.Helper()
	needLab(t, need)
	results.ran(t.Name())
	return newEmulator(t, append(s, settings{})[0])
}

// part is a sub-test that needs a lab for something, in a row that does not.
func part(t *testing.T, name, need string, s settings, do func(c *cloud)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		needLab(t, need)
		do(newEmulator(t, s))
	})
}

// rows is how many rows the table has.
const rows = 53

// ledger is which rows ran and what was left out.
type ledger struct {
	mu      sync.Mutex
	rows    map[string]bool
	missing []string
}

var results = &ledger{rows: map[string]bool{}}

var rowOf = regexp.MustCompile(`^TestE(\d\d)`)

func (l *ledger) ran(test string) {
	m := rowOf.FindStringSubmatch(test)
	if m == nil {
		panic("test " + test + " is of no row")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows["E"+m[1]] = true
}

func (l *ledger) leftOut(test, need string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missing = append(l.missing, test+" (needs a lab: "+need+")")
}

// report says which rows ran. It is an error if all tests were to run and a row is
// neither among them nor left out by name.
func (l *ledger) report() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := strings.Join(l.missing, "\n  ")
	var unknown []string
	for i := range rows {
		id := fmt.Sprintf("E%02d", i+1)
		if !l.rows[id] && !strings.Contains(out, "Test"+id) {
			unknown = append(unknown, id)
		}
	}
	fmt.Fprintf(os.Stderr, "rows that ran: %d of %d\n", len(l.rows), rows)
	if len(l.missing) > 0 {
		fmt.Fprintf(os.Stderr, "left out, for the service has no lab: %d\n  %s\n", len(l.missing), out)
	}
	filtered := flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" ||
		flag.Lookup("test.list").Value.String() != ""
	if len(unknown) > 0 && !filtered {
		return fmt.Errorf("rows without a test: %s", strings.Join(unknown, ", "))
	}
	return nil
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := results.report(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}
