package web_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/autoburst/autoburst/test/browser"
	"github.com/autoburst/autoburst/test/playground/live"
	"github.com/autoburst/autoburst/test/playground/web"
)

var update = flag.Bool("update", false, "write the screenshot of the docs anew")

// The screenshot of the docs: as wide as this, and no larger than that.
const (
	picture      = "../../../docs/images/playground.png"
	pictureWidth = 1180
	pictureBytes = 300_000
)

// page is the page in a browser without a screen.
type page struct {
	*testing.T
	ctx context.Context
}

// open starts a browser. What the page complains about on its console, such as what
// its content security policy forbids, fails the test.
func open(t *testing.T) *page {
	t.Helper()
	path, err := browser.Find(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	allocator, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true))
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	p := &page{T: t, ctx: ctx}
	p.do(chromedp.EmulateViewport(pictureWidth, 1200))
	messages := chromedp.Console(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			// The end of the server, which a test brings about, is told here, too.
			if !strings.Contains(m.Text, "ERR_") {
				t.Errorf("the console says %s at %s:%d", m, m.URL, m.Line)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	if chromedp.FromContext(p.ctx).Target == nil {
		ctx = p.ctx // the browser lives as long as the context of the first call
	}
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.Fatal(err)
	}
}

func eval[T any](p *page, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression is true.
func (p *page) until(what, expression string) {
	p.Helper()
	timeout := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](p, expression) {
		select {
		case <-tick.C:
		case <-timeout:
			p.Fatalf("not within a minute: %s (%s)", what, expression)
		}
	}
}

func (p *page) text(selector string) string {
	p.Helper()
	return eval[string](p, fmt.Sprintf("document.querySelector(%q)?.innerText ?? 'nothing matches'", selector))
}

func (p *page) media(features ...*emulation.MediaFeature) {
	p.Helper()
	p.do(func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
		return chromedp.Void{}, err
	})
}

func scheme(value string) *emulation.MediaFeature {
	return &emulation.MediaFeature{Name: "prefers-color-scheme", Value: value}
}

// The parts share a browser, and the last one takes the server away.
func TestPage(t *testing.T) {
	s := recorded(t)
	server := web.Serve(listen(t, "127.0.0.1:0"), s, web.About{Commands: []string{"export KUBECONFIG=/tmp/config", "kubectl get nodes"}})
	t.Cleanup(func() { _ = server.Close() }) // a part may have closed it
	p := open(t)
	shown := func(st live.State) {
		t.Helper()
		p.until("the state is shown", fmt.Sprintf("document.documentElement.dataset.shown === %q", st.Time.Format(time.RFC3339Nano)))
	}
	p.do(chromedp.Navigate(server.URL()))
	shown(s.State())

	t.Run("shows the figures", func(t *testing.T) {
		p := &page{t, p.ctx}
		places := s.State().Places()
		for selector, want := range map[string]string{
			"#tile-local dd":   fmt.Sprint(places.Local),
			"#tile-eci dd":     fmt.Sprint(places.ECI),
			"#tile-aci dd":     fmt.Sprint(places.ACI),
			"#tile-waiting dd": fmt.Sprint(places.Waiting),
			"#link":            "live",
			"#lines":           "export KUBECONFIG=/tmp/config\nkubectl get nodes",
			"#up":              "up ",
		} {
			if selector == "#lines" {
				p.do(chromedp.Click(chromedp.CSS("#commands summary")))
			}
			if got := p.text(selector); got != want && (want != "up " || !strings.HasPrefix(got, want)) {
				t.Errorf("%s shows %q, want %q", selector, got, want)
			}
		}
		p.do(chromedp.Click(chromedp.CSS("#commands summary")))
		for _, n := range append(s.State().Local, s.State().Virtual...) {
			row := p.text(fmt.Sprintf("#nodes tr[data-key=%q]", n.Name))
			if !strings.Contains(row, n.Name) || !strings.Contains(row, fmt.Sprint(n.Pods())) {
				t.Errorf("the row of %s is %q, want its %d pods", n.Name, row, n.Pods())
			}
			if n.Bill != nil && !strings.Contains(row, fmt.Sprintf("%s %.4f", n.Bill.Currency, n.Bill.Spent)) {
				t.Errorf("the row of %s is %q, want its bill of %v", n.Name, row, n.Bill)
			}
		}
		if got, want := eval[int](p, "document.querySelectorAll('#events li').length"), len(s.State().Events); got != want {
			t.Errorf("%d events are shown, want %d", got, want)
		}
		if got, want := eval[int](p, "document.querySelectorAll('#limits tbody tr').length"), len(s.State().Limits); got != want || want == 0 {
			t.Errorf("%d limits are shown, want %d", got, want)
		}
	})

	t.Run("draws plots", func(t *testing.T) {
		p := &page{t, p.ctx}
		for _, place := range []string{"local", "eci", "aci", "waiting"} {
			d := eval[string](p, fmt.Sprintf("document.querySelector('#plot-pods path.fill-%s')?.getAttribute('d') ?? ''", place))
			if points := strings.Count(d, "L"); points < 2*len(s.history) || strings.Contains(d, "NaN") {
				t.Errorf("the area of %s has %d points, want two for each of %d samples: %.80s", place, points, len(s.history), d)
			}
		}
		if got, want := eval[int](p, "document.querySelectorAll('#plot-cost .cost-line').length"), len(s.State().Bills()); got != want || want != 2 {
			t.Errorf("%d prices are drawn, want %d", got, want)
		}
		// The topmost point of the stack is the largest sum of pods.
		if top := eval[float64](p, "Math.min(...[...document.querySelectorAll('#plot-pods path[class^=fill]')].map((e) => e.getBBox().y))"); top < 8 || top > 120 {
			t.Errorf("the stack ends at %v of 240, want it to use the height", top)
		}
	})

	t.Run("follows what happens", func(t *testing.T) {
		p := &page{t, p.ctx}
		st := s.change(func(st *live.State) {
			st.Time = st.Time.Add(2 * time.Second)
			st.Waiting = live.Waiting{Pods: 123, OldestSeconds: 75}
			st.Stopped = true
			st.Local = st.Local[:2]
			st.Virtual[0].Cordoned = true
		})
		shown(st)
		if got := p.text("#tile-waiting"); !strings.Contains(got, "123") || !strings.Contains(got, "1 min 15 s") {
			t.Errorf("waiting: %q, want 123 pods and 1 min 15 s", got)
		}
		if got := p.text("#alarm"); !strings.Contains(got, "stopped") {
			t.Errorf("the alarm says %q, want that all bursting is stopped", got)
		}
		if got := p.text("#nodes"); strings.Contains(got, "local-3") || !strings.Contains(got, "cordoned") {
			t.Errorf("nodes: %q, want local-3 gone and a node cordoned", got)
		}
		s.change(func(st *live.State) { *st = recorded(t).state; st.Time = st.Time.Add(3 * time.Second) })
	})

	t.Run("can be read by everybody", func(t *testing.T) {
		p := &page{t, p.ctx}
		for _, colours := range []string{"light", "dark"} {
			p.media(scheme(colours))
			for _, pale := range eval[[]string](p, lowContrast) {
				t.Errorf("%s: contrast below 4.5: %s", colours, pale)
			}
		}
		for _, nameless := range eval[[]string](p, withoutName) {
			t.Errorf("a reader of the screen has no name for %s", nameless)
		}
		p.media(&emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
		if got := eval[string](p, "getComputedStyle(document.querySelector('.bar rect:nth-child(2)')).transitionDuration"); got != "0s" {
			t.Errorf("bars move for %s though less motion is wanted", got)
		}
		p.media(scheme("light"))
	})

	t.Run("is used with the keyboard", func(t *testing.T) {
		p := &page{t, p.ctx}
		p.do(chromedp.Focus(chromedp.CSS("#plot-pods svg[tabindex]")))
		last := eval[string](p, "document.activeElement.getAttribute('aria-valuenow')")
		p.do(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
		now := eval[string](p, "document.activeElement.getAttribute('aria-valuenow')")
		if says := eval[string](p, "document.activeElement.getAttribute('aria-valuetext')"); now == last || !strings.Contains(says, " s ago: Local nodes ") {
			t.Errorf("three steps to the left lead from %s to %s, which says %q", last, now, says)
		}
		reached := map[string]bool{}
		p.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(), undefined"))
		for range 12 {
			p.do(chromedp.KeyEvent(kb.Tab))
			reached[eval[string](p, "((e) => e.id || (e.closest('.plot, .plots, details, header') ?? {}).id || e.getAttribute('class') || e.tagName)(document.activeElement)")] = true
		}
		for _, want := range []string{"skip", "plot-pods", "events", "commands"} {
			if !reached[want] {
				t.Errorf("Tab does not reach %s, only %v", want, reached)
			}
		}
	})

	t.Run("fits a telephone", func(t *testing.T) {
		p := &page{t, p.ctx}
		p.do(chromedp.EmulateViewport(360, 740))
		defer p.do(chromedp.EmulateViewport(pictureWidth, 1200))
		p.until("the window is narrow", "innerWidth === 360")
		if wide := eval[[]string](p, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 361 && !e.closest("pre, .hidden"))
			.map((e) => e.outerHTML.slice(0, 100))`); len(wide) > 0 {
			t.Errorf("wider than the window: %s", wide)
		}
	})

	t.Run("looks like its picture", func(t *testing.T) {
		p := &page{t, p.ctx}
		p.media(scheme("light"), &emulation.MediaFeature{Name: "prefers-reduced-motion", Value: "reduce"})
		s.change(func(st *live.State) { *st = recorded(t).state })
		p.do(chromedp.Reload())
		shown(s.State())
		height := eval[int](p, "Math.ceil(document.querySelector('main').getBoundingClientRect().bottom) + 24")
		p.do(chromedp.EmulateViewport(pictureWidth, int64(height)))
		p.do(chromedp.Evaluate[chromedp.Void]("scrollTo(0, 0)"))
		ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
		defer cancel()
		shot, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(filepath.Dir(picture), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(picture, shot, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		// Machines have other fonts, so the picture is of the same size about, and no
		// more is compared.
		kept, err := os.ReadFile(picture)
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) > pictureBytes {
			t.Errorf("%s has %d bytes, want %d at most", picture, len(kept), pictureBytes)
		}
		want, err := png.DecodeConfig(bytes.NewReader(kept))
		if err != nil {
			t.Fatal(err)
		}
		got, err := png.DecodeConfig(bytes.NewReader(shot))
		if err != nil {
			t.Fatal(err)
		}
		if got.Width != want.Width || got.Height < want.Height*8/10 || got.Height > want.Height*12/10 {
			t.Errorf("the page is %d × %d, its picture %d × %d: look at it, and write it anew with -update", got.Width, got.Height, want.Width, want.Height)
		}
	})

	t.Run("says when it is not live, and comes back", func(t *testing.T) {
		p := &page{t, p.ctx}
		address := strings.TrimPrefix(server.URL(), "http://")
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
		p.until("the connection is said to be gone", "document.querySelector('#link').innerText === 'no connection'")
		server = web.Serve(listen(t, address), s, web.About{})
		p.until("the page is live again", "document.querySelector('#link').innerText === 'live'")
	})
}

// lowContrast lists the texts whose contrast with their ground is below 4.5 to 1, as
// WCAG 2 counts it.
const lowContrast = `(() => {
	const channels = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3); };
	const luminance = (c) => c.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
	const out = [];
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.textContent.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(e.tagName) || !e.getClientRects().length) continue;
		const style = getComputedStyle(e);
		const ink = channels(e instanceof SVGElement ? style.fill : style.color);
		const [a, b] = [luminance(ink), luminance(ground(e))].sort((x, y) => y - x);
		const ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) out.push(ratio.toFixed(2) + " " + walk.currentNode.textContent.trim().slice(0, 40));
	}
	return [...new Set(out)];
})()`

// withoutName lists what can have the focus, or is a picture, and says nothing to a
// reader of the screen.
const withoutName = `[...document.querySelectorAll('[tabindex="0"], [role=img], a, button, img, main h2')]
	.filter((e) => !(e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.textContent.trim() || e.hasAttribute("alt")))
	.map((e) => e.outerHTML.slice(0, 80))`
