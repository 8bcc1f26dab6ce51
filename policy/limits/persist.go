package limits

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy"
)

// LedgerKey is the key of the ConfigMap under which the ledger is kept.
const LedgerKey = "ledger"

// Names of the heartbeats, Lease objects of the replicas that hold shares.
const (
	// HeartbeatPrefix, with the name of the replica appended, is a Lease's name.
	HeartbeatPrefix = "autoburst-webhook-"
	// HeartbeatLabel marks them, with the value true.
	HeartbeatLabel = "autoburst.io/webhook-replica"
	// ClosedAnnotation tells what was consumed of each share that is closed, as JSON.
	ClosedAnnotation = "autoburst.io/closed-shares"
	// OpenAnnotation tells how many other shares are held.
	OpenAnnotation = "autoburst.io/open-shares"
)

// HeartbeatPeriod is how often a replica tells that it lives.
const HeartbeatPeriod = 2 * time.Second

// ReadState reads the ledger from the ConfigMap that keeps it.
func ReadState(m *corev1.ConfigMap) (State, error) {
	var s State
	if err := json.Unmarshal([]byte(m.Data[LedgerKey]), &s); err != nil {
		return State{}, fmt.Errorf("reading the ledger of ConfigMap %s/%s: %w", m.Namespace, m.Name, err)
	}
	if s.ID == "" {
		return State{}, fmt.Errorf("reading the ledger of ConfigMap %s/%s: it has no id", m.Namespace, m.Name)
	}
	return s, nil
}

// Write puts the ledger into a ConfigMap.
func (s State) Write(m *corev1.ConfigMap) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing the ledger: %w", err)
	}
	if m.Data == nil {
		m.Data = make(map[string]string, 1)
	}
	m.Data[LedgerKey] = string(b)
	return nil
}

// Report is what a heartbeat tells.
type Report struct {
	Replica string
	Closed  map[string]policy.Amount
	// Holds is true when the replica holds shares, closed or not.
	Holds bool
}

// ReadHeartbeat reads a heartbeat. What cannot be read is taken as not told.
func ReadHeartbeat(l *coordinationv1.Lease) Report {
	r := Report{Replica: strings.TrimPrefix(l.Name, HeartbeatPrefix)}
	if err := json.Unmarshal([]byte(l.Annotations[ClosedAnnotation]), &r.Closed); err != nil {
		r.Closed = nil
	}
	open := l.Annotations[OpenAnnotation]
	r.Holds = len(r.Closed) > 0 || open != "" && open != "0"
	return r
}
