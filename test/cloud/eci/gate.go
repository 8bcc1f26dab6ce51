package eci

import (
	"crypto/subtle"
	"net/http"
	"slices"
	"sync"
	"time"
)

// gate is what stands before every action: key, signature, age, nonce, rate.
type gate struct {
	now             func() time.Time
	timestampWindow time.Duration
	nonceWindow     time.Duration

	mu      sync.Mutex
	keys    map[string]AccessKey
	nonces  map[string]time.Time // key id and nonce, to the time of use
	swept   time.Time
	rates   Rates
	recent  map[string][]time.Time
	buckets map[string]*bucketLevel
}

type bucketLevel struct {
	tokens float64
	at     time.Time
}

func (g *gate) init(o Options, now func() time.Time) {
	g.now, g.timestampWindow, g.nonceWindow = now, o.TimestampWindow, o.NonceWindow
	g.nonces = map[string]time.Time{}
	g.setKeys(o.AccessKeys)
	g.setRates(o.Rates)
}

func (g *gate) setKeys(keys []AccessKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys = map[string]AccessKey{}
	for _, k := range keys {
		g.keys[k.ID] = k
	}
}

func (g *gate) setRates(r Rates) {
	if r.Code == "" {
		r.Code = "Throttling.User"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rates, g.recent, g.buckets = r, map[string][]time.Time{}, map[string]*bucketLevel{}
}

// addKey adds a key to the account.
func (g *gate) addKey(k AccessKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.keys[k.ID] = k
}

// admit lets a call in or says why not, and names its action and principal.
func (g *gate) admit(r *http.Request, c *call) *apiError {
	form := c.form
	for _, name := range []string{"Action", "Version", "AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Signature"} {
		if form.Get(name) == "" {
			return missingParameter(name)
		}
	}
	c.action = form.Get("Action")
	methods, known := published().published[c.action]
	if !known || form.Get("Version") != apiVersion {
		return refuse(http.StatusNotFound, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
	}
	if !slices.Contains(methods, r.Method) {
		return unsupportedMethod(r.Method)
	}
	key, err := g.key(c)
	if err != nil {
		return err
	}
	if err := g.checkTimestamp(form.Get("Timestamp")); err != nil {
		return err
	}
	if form.Get("SignatureMethod") != "HMAC-SHA1" || form.Get("SignatureVersion") != "1.0" {
		return refuse(http.StatusBadRequest, "InvalidSignatureMethod", "Specified signature method is not valid; use HMAC-SHA1 of version 1.0.")
	}
	text := stringToSign(r.Method, form)
	want := signature(key.Secret, text)
	if subtle.ConstantTimeCompare([]byte(form.Get("Signature")), []byte(want)) != 1 {
		return refuse(http.StatusBadRequest, "SignatureDoesNotMatch", "%s", "Specified signature is not matched with our calculation. server string to sign is:"+text)
	}
	if err := g.useNonce(key.ID, form.Get("SignatureNonce")); err != nil {
		return err
	}
	if _, ok := published().served[c.action]; !ok {
		return notEmulated(c.action)
	}
	return g.throttle(c.action)
}

func (g *gate) key(c *call) (AccessKey, *apiError) {
	id := c.form.Get("AccessKeyId")
	g.mu.Lock()
	key, ok := g.keys[id]
	g.mu.Unlock()
	switch {
	case !ok:
		return key, refuse(http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	case key.Inactive:
		return key, refuse(http.StatusBadRequest, "InvalidAccessKeyId.Inactive", "Specified access key is disabled.")
	case !key.Expires.IsZero() && !g.now().Before(key.Expires):
		return key, refuse(http.StatusBadRequest, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
	case key.SecurityToken != c.form.Get("SecurityToken"):
		return key, refuse(http.StatusBadRequest, "InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken does not belong to the access key.")
	}
	c.principal = id
	return key, nil
}

func (g *gate) checkTimestamp(text string) *apiError {
	sent, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err != nil {
		return refuse(http.StatusBadRequest, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
	}
	if age := g.now().Sub(sent); age > g.timestampWindow || -age > g.timestampWindow {
		return refuse(http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	}
	return nil
}

func (g *gate) useNonce(key, nonce string) *apiError {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.swept) > g.nonceWindow/4 {
		for n, at := range g.nonces {
			if now.Sub(at) > g.nonceWindow {
				delete(g.nonces, n)
			}
		}
		g.swept = now
	}
	name := key + "\x00" + nonce
	if at, used := g.nonces[name]; used && now.Sub(at) <= g.nonceWindow {
		return refuse(http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already.")
	}
	g.nonces[name] = now
	return nil
}

// throttle applies the flow control of the account.
func (g *gate) throttle(action string) *apiError {
	now := g.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	denied := refuse(http.StatusBadRequest, g.rates.Code, "Request was denied due to user flow control.")
	denied.retryAfter = g.rates.RetryAfter
	if limit, ok := g.rates.PerMinute[action]; ok {
		calls := g.recent[action]
		for len(calls) > 0 && now.Sub(calls[0]) >= time.Minute {
			calls = calls[1:]
		}
		g.recent[action] = calls
		if len(calls) >= limit {
			return denied
		}
		g.recent[action] = append(calls, now)
	}
	if b, ok := g.rates.Buckets[action]; ok {
		level := g.buckets[action]
		if level == nil {
			level = &bucketLevel{tokens: float64(b.Burst), at: now}
			g.buckets[action] = level
		}
		level.tokens = min(float64(b.Burst), level.tokens+b.PerSecond*now.Sub(level.at).Seconds())
		level.at = now
		if level.tokens < 1 {
			return denied
		}
		level.tokens--
	}
	return nil
}
