package playground

import "github.com/autoburst/autoburst/test/cluster"

// Tap is what a replica of an agent, and whoever takes its place, reaches the API
// server through; nil without Options.Taps.
func (p *Playground) Tap(a *Agent) *cluster.Tap {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taps[a.Pod]
}

// tap makes sure that the place of a replica has its tap, if taps are wanted.
func (p *Playground) tap(pod string) (*cluster.Tap, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.options.Taps || p.taps[pod] != nil {
		return p.taps[pod], nil
	}
	tap, err := p.NewTap()
	if err == nil {
		p.taps[pod] = tap
	}
	return tap, err
}
