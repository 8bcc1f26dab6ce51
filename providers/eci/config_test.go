package eci

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfigFromEnv(t *testing.T) {
	dir := t.TempDir()
	noPEM := filepath.Join(dir, "ca.txt")
	if err := os.WriteFile(noPEM, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	seed := map[string]string{
		"ECI_REGION": "us-west-1", "ECI_VSWITCH": "vsw-1", "ECI_SECURITY_GROUP": "sg-1",
		"ECI_ACCESS_KEY": "the-key-id", "ECI_SECRET_KEY": "the-key-secret",
	}
	tests := map[string]struct {
		change map[string]string
		want   []string // parts of the error; none means success
	}{
		"the seed's variables": {},
		"everything missing": {
			map[string]string{"ECI_REGION": "", "ECI_VSWITCH": " ", "ECI_SECURITY_GROUP": "", "ECI_ACCESS_KEY": "", "ECI_SECRET_KEY": ""},
			[]string{"ECI_REGION is not set", "ECI_VSWITCH is not set", "ECI_SECURITY_GROUP is not set", "ECI_ACCESS_KEY is not set", "ECI_SECRET_KEY is not set"},
		},
		"no region":             {map[string]string{"ECI_REGION": "US West"}, []string{"ECI_REGION is \"US West\""}},
		"eleven VSwitches":      {map[string]string{"ECI_VSWITCH": strings.Repeat("v,", 11)}, []string{"ECI_VSWITCH names 11"}},
		"a URL as endpoint":     {map[string]string{"ECI_ENDPOINT": "https://eci.example.com"}, []string{"ECI_ENDPOINT", "without a scheme"}},
		"a host as endpoint":    {map[string]string{"ECI_ENDPOINT": "eci-vpc.example.com"}, nil},
		"no such CA file":       {map[string]string{"ECI_CA_FILE": filepath.Join(dir, "none")}, []string{"ECI_CA_FILE"}},
		"no CA in the file":     {map[string]string{"ECI_CA_FILE": noPEM}, []string{"ECI_CA_FILE", "no PEM certificate"}},
		"pod settings":          {map[string]string{"ECI_POD_ANNOTATIONS": `{"k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo"}`, "ECI_FORBIDDEN_ANNOTATIONS": "k8s.aliyun.com/eci-ram-role-name, k8s.aliyun.com/eci-vswitch"}, nil},
		"pod settings, no JSON": {map[string]string{"ECI_POD_ANNOTATIONS": "spot"}, []string{"ECI_POD_ANNOTATIONS is no JSON object"}},
		"a wrong pod setting":   {map[string]string{"ECI_POD_ANNOTATIONS": `{"k8s.aliyun.com/eci-spot-strategy": "cheap"}`}, []string{"ECI_POD_ANNOTATIONS", "eci-spot-strategy", "write SpotAsPriceGo"}},
		"an unknown one":        {map[string]string{"ECI_POD_ANNOTATIONS": `{"spot": "yes"}`}, []string{"spot is no annotation that ECI reads"}},
		"forbids an unknown":    {map[string]string{"ECI_FORBIDDEN_ANNOTATIONS": "k8s.aliyun.com/eci-ram-role"}, []string{"ECI_FORBIDDEN_ANNOTATIONS", "eci-ram-role is no annotation"}},
		"half a role":           {map[string]string{"ECI_ACCESS_KEY": "", "ECI_SECRET_KEY": "", "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/r"}, []string{"ALIBABA_CLOUD_OIDC_PROVIDER_ARN is not set", "ALIBABA_CLOUD_OIDC_TOKEN_FILE is not set"}},
		"a key beside a role":   {map[string]string{"ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/r"}, nil},
		"a URL of metadata":     {map[string]string{"ECI_ACCESS_KEY": "", "ECI_SECRET_KEY": "", "ALIBABA_CLOUD_ECS_METADATA": "r", "ECI_METADATA_ENDPOINT": "http://1.2.3.4"}, []string{"ECI_METADATA_ENDPOINT", "without a scheme"}},
		"key twice":             {map[string]string{"ECI_ACCESS_KEY_FILE": noPEM}, []string{"ECI_ACCESS_KEY and ECI_ACCESS_KEY_FILE are both set"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg, err := ConfigFromEnv(func(name string) string {
				if v, ok := tt.change[name]; ok {
					return v
				}
				return seed[name]
			})
			if len(tt.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				cfg.ClusterUID, cfg.NodeName = "c", "n"
				if _, err := New(cfg); err != nil {
					t.Errorf("New: %v", err)
				}
				key, err := cfg.Credentials()
				if diff := cmp.Diff(Credentials{AccessKeyID: "the-key-id", AccessKeySecret: "the-key-secret"}, key); diff != "" || err != nil {
					t.Errorf("credentials (-want +got), %v:\n%s", err, diff)
				}
				return
			}
			if err == nil {
				t.Fatalf("no error, want one with %q", tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "the-key") {
				t.Errorf("the error shows a key: %v", err)
			}
		})
	}
}

func TestNewRefusesIncompleteSettings(t *testing.T) {
	_, err := New(Config{NodeName: strings.Repeat("n", 129)})
	for _, want := range []string{"Region", "VSwitchIDs", "SecurityGroupID", "Credentials", "ClusterUID", "NodeName"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s in it", err, want)
		}
	}
}

func TestCredentialsFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, value string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	env := map[string]string{
		"ECI_ACCESS_KEY_FILE": write("id", "id-1\n"), "ECI_SECRET_KEY_FILE": write("secret", "secret-1\n"),
		"ECI_SECURITY_TOKEN_FILE": write("token", "token-1"),
	}
	source, err := credentialsFromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	read := func(want Credentials) {
		t.Helper()
		got, err := source()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("credentials (-want +got), %v:\n%s", err, diff)
		}
	}
	read(Credentials{"id-1", "secret-1", "token-1"})
	write("id", "id-2")
	write("secret", "secret-2")
	read(Credentials{"id-2", "secret-2", "token-1"})

	write("secret", "\n")
	if _, err := source(); err == nil || !strings.Contains(err.Error(), "ECI_SECRET_KEY_FILE") {
		t.Errorf("error %v for an empty file, want ECI_SECRET_KEY_FILE in it", err)
	}
}

func TestCredentialsAreNotPrinted(t *testing.T) {
	c := Credentials{"id-4711", "secret-4711", "token-4711"}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", &c), fmt.Sprintf("%+v", struct{ C Credentials }{c})} {
		if strings.Contains(s, "4711") {
			t.Errorf("printed as %s", s)
		}
	}
}
