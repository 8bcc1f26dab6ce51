package eci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// renewBefore is how long before its end a session's key is replaced, or half of
	// its life where that is shorter.
	renewBefore = 10 * time.Minute
	// askAgain is how long after a try, good or bad, another is made at the soonest.
	askAgain = 5 * time.Second
	// askTimeout bounds one try.
	askTimeout = 10 * time.Second
	// sessionSeconds is what is asked for; a role's own bound is an hour by default.
	sessionSeconds = 3600
	// metadataHost is where the metadata of an ECS instance is served.
	metadataHost = "100.100.100.200"
	// maxSessionAnswer bounds what is read of one answer.
	maxSessionAnswer = 64 << 10
)

// session keeps the key of a session and replaces it before its end. The SDK has
// providers of both kinds of sessions; they know neither other addresses nor other
// authorities, and cannot be used by several goroutines.
type session struct {
	now func() time.Time
	ask func(context.Context) (Credentials, time.Time, error)

	mu          sync.Mutex
	key         Credentials
	renew, ends time.Time
	tried       time.Time
	failed      error // of the last try
}

// credentials is the session's [CredentialSource]. A key that has not ended serves on
// while no other is to be had.
func (s *session) credentials() (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Before(s.renew) {
		return s.key, nil
	}
	if s.tried.IsZero() || now.Sub(s.tried) >= askAgain {
		s.tried = now
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		key, ends, err := s.ask(ctx)
		cancel()
		if s.failed = err; err == nil {
			s.key, s.ends = key, ends
			s.renew = ends.Add(-min(renewBefore, ends.Sub(now)/2))
		}
	}
	switch {
	case now.Before(s.ends):
		return s.key, nil
	case s.failed != nil:
		return Credentials{}, s.failed
	}
	return Credentials{}, errors.New("the key of the session has ended")
}

// refused has another key asked for in place of one that the cloud does not accept;
// not at once after it was given, since then it is the role that lacks a right.
func (s *session) refused(key Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key == s.key && s.now().Sub(s.tried) >= time.Minute {
		s.renew = time.Time{}
	}
}

// sessionAnswer is a key as both services write it.
type sessionAnswer struct {
	Code                                       string
	AccessKeyID                                string `json:"AccessKeyId"`
	AccessKeySecret, SecurityToken, Expiration string
}

func (a *sessionAnswer) read(what string) (Credentials, time.Time, error) {
	ends, err := time.Parse(time.RFC3339, a.Expiration)
	if err != nil || a.AccessKeyID == "" || a.AccessKeySecret == "" || a.SecurityToken == "" {
		return Credentials{}, time.Time{}, fmt.Errorf("%s answers without a key, its secret, its token and its end", what)
	}
	return Credentials{a.AccessKeyID, a.AccessKeySecret, a.SecurityToken}, ends, nil
}

// oidc is a role that a service account may assume (RRSA): its token is exchanged at
// the Security Token Service.
type oidc struct {
	client                              *http.Client
	endpoint                            string // host or host:port
	roleARN, providerARN, tokenFile, as string
}

func (o *oidc) ask(ctx context.Context) (Credentials, time.Time, error) {
	token, err := os.ReadFile(o.tokenFile) // anew: the kubelet renews it
	if err != nil {
		return Credentials{}, time.Time{}, fmt.Errorf("ALIBABA_CLOUD_OIDC_TOKEN_FILE: %w", err)
	}
	form := url.Values{
		"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"},
		"Timestamp": {time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		"RoleArn":   {o.roleARN}, "OIDCProviderArn": {o.providerARN}, "RoleSessionName": {o.as},
		"OIDCToken": {strings.TrimSpace(string(token))}, "DurationSeconds": {strconv.Itoa(sessionSeconds)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+o.endpoint+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return Credentials{}, time.Time{}, errors.New("the Security Token Service: the request could not be made")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Code        string
		Credentials sessionAnswer
	}
	if err := fetch(o.client, req, "the Security Token Service at "+o.endpoint, &answer, &answer.Code); err != nil {
		return Credentials{}, time.Time{}, err
	}
	return answer.Credentials.read("the Security Token Service")
}

// instance is the role of the machine that the agent runs on, told by its metadata.
type instance struct {
	client   *http.Client
	endpoint string // host or host:port
	role     string
}

func (i *instance) ask(ctx context.Context) (Credentials, time.Time, error) {
	const what = "the instance's metadata service"
	request := func(method, path string) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, method, "http://"+i.endpoint+"/latest/"+path, nil)
	}
	req, err := request(http.MethodPut, "api/token")
	if err != nil {
		return Credentials{}, time.Time{}, errors.New(what + ": the request could not be made")
	}
	req.Header.Set("X-aliyun-ecs-metadata-token-ttl-seconds", "60")
	var token string
	if err := fetch(i.client, req, what, &token, nil); err != nil {
		return Credentials{}, time.Time{}, err
	}
	if req, err = request(http.MethodGet, "meta-data/ram/security-credentials/"+url.PathEscape(i.role)); err != nil {
		return Credentials{}, time.Time{}, errors.New(what + ": the request could not be made")
	}
	req.Header.Set("X-aliyun-ecs-metadata-token", token)
	var answer sessionAnswer
	if err := fetch(i.client, req, what+", for the role "+i.role, &answer, &answer.Code); err != nil {
		return Credentials{}, time.Time{}, err
	}
	if answer.Code != "" && answer.Code != "Success" {
		return Credentials{}, time.Time{}, fmt.Errorf("%s has no key for the role %s: %s", what, i.role, codeOnly(answer.Code))
	}
	return answer.read(what)
}

// fetch sends a request and reads the answer: a document, or a text where into is a
// text. Its errors hold nothing of the request or of the answer but the code.
func fetch(client *http.Client, req *http.Request, what string, into any, code *string) error {
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s could not be asked: %s", what, cause(err))
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSessionAnswer))
	if err != nil {
		return fmt.Errorf("%s broke off its answer", what)
	}
	if text, ok := into.(*string); ok && resp.StatusCode == http.StatusOK {
		*text = strings.TrimSpace(string(body))
		return nil
	}
	bad := json.Unmarshal(body, into)
	switch {
	case resp.StatusCode != http.StatusOK && bad == nil && code != nil && *code != "":
		return fmt.Errorf("%s refuses: HTTP %d, %s", what, resp.StatusCode, codeOnly(*code))
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s refuses: HTTP %d", what, resp.StatusCode)
	case bad != nil:
		return fmt.Errorf("%s answers with what is no document of it", what)
	}
	return nil
}

var plainCode = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,80}$`)

// codeOnly lets a code through, and nothing that could be a part of a key.
func codeOnly(code string) string {
	if !plainCode.MatchString(code) {
		return "with a code that is none"
	}
	return code
}

// sessionClient follows no redirects: the request holds a token.
func sessionClient(transport *http.Transport) *http.Client {
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
}
