package playground

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
)

// ConsolesNamespace has a ConfigMap for each virtual node, in the place of its
// cloud's console. The key stock says what machines the cloud has: plenty or none.
const ConsolesNamespace = "clouds"

// Values of the key stock.
const (
	stockKey    = "stock"
	stockPlenty = "plenty"
	stockNone   = "none"
)

// ServeConsoles makes the consoles of the clouds and does what they say until the
// context ends; wait waits for that. The key inForce tells what has been done.
func (p *Playground) ServeConsoles(ctx context.Context) (wait func(), err error) {
	if err := p.CreateNamespace(ctx, ConsolesNamespace, nil); err != nil {
		return nil, err
	}
	client := p.Client().CoreV1().ConfigMaps(ConsolesNamespace)
	for _, node := range []string{ECINode, ACINode} {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: node}, Data: map[string]string{stockKey: stockPlenty}}
		if _, err := client.Create(ctx, m, metav1.CreateOptions{}); err != nil {
			return nil, fmt.Errorf("making the console of %s: %w", node, err)
		}
	}
	factory := informers.NewSharedInformerFactoryWithOptions(p.Client(), 0, informers.WithNamespace(ConsolesNamespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	var mu sync.Mutex
	obey := func(o any) {
		m, ok := o.(*corev1.ConfigMap)
		if !ok || (m.Name != ECINode && m.Name != ACINode) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		p.setStock(m.Name, m.Data[stockKey])
		if inForce := p.stockInForce(m.Data[stockKey]); m.Data["inForce"] != inForce {
			m = m.DeepCopy()
			m.Data = map[string]string{stockKey: m.Data[stockKey], "inForce": inForce}
			// Whoever changed it meanwhile is obeyed next.
			_, _ = client.Update(ctx, m, metav1.UpdateOptions{})
		}
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: obey, UpdateFunc: func(_, o any) { obey(o) },
		DeleteFunc: func(o any) {
			if m, ok := o.(*corev1.ConfigMap); ok {
				mu.Lock()
				defer mu.Unlock()
				p.setStock(m.Name, stockPlenty)
			}
		},
	}); err != nil {
		return nil, fmt.Errorf("watching the consoles of the clouds: %w", err)
	}
	factory.Start(ctx.Done())
	return factory.Shutdown, nil
}

func (p *Playground) setStock(node, stock string) {
	switch {
	case node == ECINode && stock == stockNone:
		p.ECI.SetShortages(eci.Shortage{})
	case node == ECINode:
		p.ECI.SetShortages()
	case stock == stockNone:
		p.ACI.Change(func(s *aci.Settings) { s.Shortages = []aci.Shortage{{}} })
	default:
		p.ACI.Change(func(s *aci.Settings) { s.Shortages = nil })
	}
}

// stockInForce is what a value of the key stock leads to.
func (p *Playground) stockInForce(stock string) string {
	switch stock {
	case stockNone, stockPlenty:
		return stock
	default:
		return fmt.Sprintf("%s, as %q is neither %s nor %s", stockPlenty, stock, stockPlenty, stockNone)
	}
}
