package rights

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// Check fails for every right that the run lacked and every rule that grants
// nothing beside others and, if the run was whole, for every right that it did
// not need and that is counted.
func Check(path, namespace string, whole bool, counted func(Right) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	defer f.Close()
	log, err := Read(f, namespace)
	if err != nil {
		return err
	}
	if len(log.Rights()) == 0 || len(log.Calls) == 0 {
		return errors.New("the audit log tells of no rights or no requests: nothing was compared")
	}
	var faults []string
	for _, m := range log.Missing() {
		faults = append(faults, "missing: "+m)
	}
	for _, r := range log.Repeated() {
		faults = append(faults, "granted twice: "+r.String())
	}
	if whole {
		for _, r := range log.Unused() {
			if counted(r) {
				faults = append(faults, "never used: "+r.String())
			}
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("the chart's Roles are not what the programs need; each right has its template in charts/autoburst/templates:\n%s", strings.Join(faults, "\n"))
	}
	return nil
}

// Whole says whether this test binary was asked to run all of its tests.
func Whole() bool {
	for _, name := range []string{"test.run", "test.skip"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return true
}
