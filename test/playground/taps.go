package playground

import "github.com/autoburst/autoburst/test/cluster"

// startTaps starts a tap for each virtual node, if they are wanted.
func (p *Playground) startTaps() error {
	p.taps = map[string]*cluster.Tap{}
	if !p.options.Taps {
		return nil
	}
	for _, node := range []string{ECINode, ACINode} {
		tap, err := p.NewTap()
		if err != nil {
			return err
		}
		p.taps[node] = tap
	}
	return nil
}

// Tap is what the agents of a virtual node reach the API server through, nil if
// they do so directly.
func (p *Playground) Tap(node string) *cluster.Tap { return p.taps[node] }
