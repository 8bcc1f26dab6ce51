package quota

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Settings are rules of the operator's own, by operation: vendors raise quotas
// on request. The zero value changes nothing.
type Settings struct {
	rules     map[string]Rules
	unlimited bool
}

// unlimited is the word for no bound.
const unlimited = "unlimited"

// Unlimited are settings without any bound.
func Unlimited() Settings { return Settings{unlimited: true} }

// Parse reads settings: entries OPERATION=RULES, separated by semicolons. RULES
// are a bucket BURST+RATE/s, windows CALLS/DURATION, or both, separated by
// commas; or the word unlimited. The word alone lifts every bound.
//
//	CreateContainerGroup=200+40/s,2000/1m; DescribeContainerGroups=4000/1m
func Parse(text string) (Settings, error) {
	s := Settings{rules: map[string]Rules{}}
	var errs []error
	for entry := range strings.SplitSeq(text, ";") {
		entry = strings.TrimSpace(entry)
		switch entry {
		case "":
			continue
		case unlimited:
			s.unlimited = true
			continue
		}
		operation, rules, ok := strings.Cut(entry, "=")
		operation = strings.TrimSpace(operation)
		if !ok || operation == "" {
			errs = append(errs, fmt.Errorf("%q is no quota: write OPERATION=RULES, such as CreateContainerGroup=200+40/s", entry))
			continue
		}
		r, err := parseRules(rules)
		if err != nil {
			errs = append(errs, fmt.Errorf("quota of %s: %w", operation, err))
		}
		s.rules[operation] = r
	}
	if err := errors.Join(errs...); err != nil {
		return Settings{}, err
	}
	return s, nil
}

func parseRules(text string) (Rules, error) {
	var r Rules
	if strings.TrimSpace(text) == unlimited {
		return r, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		amount, per, ok := strings.Cut(part, "/")
		burst, rate, bucket := strings.Cut(amount, "+")
		wrong := fmt.Errorf("%q is no rule: write BURST+RATE/s such as 200+40/s, CALLS/DURATION such as 2000/1m, or unlimited", part)
		switch {
		case !ok:
			return Rules{}, wrong
		case bucket:
			n, err := strconv.Atoi(burst)
			f, bad := strconv.ParseFloat(rate, 64)
			if err != nil || bad != nil || per != "s" || n < 1 || !(f > 0 && f <= 1e6) || r.Bucket != (Bucket{}) {
				return Rules{}, wrong
			}
			r.Bucket = Bucket{Burst: n, PerSecond: f}
		default:
			n, err := strconv.Atoi(amount)
			d, bad := time.ParseDuration(per)
			if err != nil || bad != nil || n < 1 || d < time.Second || d > 24*time.Hour {
				return Rules{}, wrong
			}
			r.Windows = append(r.Windows, Window{Calls: n, Length: d})
		}
	}
	return r, nil
}

// apply returns the quota with the operator's rules.
func (s Settings) apply(q Quota) Quota {
	if r, ok := s.rules[q.Operation]; ok {
		q.Rules = r
	} else if s.unlimited {
		q.Rules = Rules{}
	}
	return q
}
