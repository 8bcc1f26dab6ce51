package vnode

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
)

// The cases and their results are those of the kubelet's own expansion.
func TestExpand(t *testing.T) {
	vars := map[string]string{"VAR_A": "A", "VAR_B": "B", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}
	for in, want := range map[string]string{
		"":                          "",
		"$(VAR_A)":                  "A",
		"___$(VAR_B)___":            "___B___",
		"___$(VAR_B)":               "___B",
		"$(VAR_A)_$(VAR_B)":         "A_B",
		"$(VAR_REF)":                "$(VAR_A)",
		"%%$(VAR_REF)--$(VAR_REF)%": "%%$(VAR_A)--$(VAR_A)%",
		"foo$(VAR_EMPTY)bar":        "foobar",
		"foo$(VAR_Awhoops!":         "foo$(VAR_Awhoops!",
		"f00__(VAR_A)__":            "f00__(VAR_A)__",
		"$$":                        "$",
		"$$$":                       "$$",
		"$":                         "$",
		"foo$$(VAR_A)":              "foo$(VAR_A)",
		"$$$(VAR_A)":                "$A",
		"$$$$(VAR_A)":               "$$(VAR_A)",
		"$(NONE)":                   "$(NONE)",
		"$()":                       "$()",
		"$VAR_A":                    "$VAR_A",
		"$ä$(VAR_A)":                "$äA",
		"$(":                        "$(",
		"$($(VAR_A)":                "$($(VAR_A)",
		"$(VAR_A))":                 "A)",
	} {
		got := expand(in, func(name string) (string, bool) { v, ok := vars[name]; return v, ok })
		if got != want {
			t.Errorf("expand(%q) = %q, want %q", in, got, want)
		}
	}
}

func testResolver(t *testing.T, objects ...runtime.Object) *resolver {
	t.Helper()
	client := fakeClient(objects...)
	client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		c, ok := a.(clienttesting.CreateActionImpl)
		if !ok || c.Subresource != "token" {
			return false, nil, nil
		}
		request := c.Object.(*authv1.TokenRequest).DeepCopy()
		if request.Spec.BoundObjectRef == nil || request.Spec.BoundObjectRef.UID != "uid-web" {
			t.Errorf("the token is not bound to the pod: %+v", request.Spec)
		}
		request.Status.Token = "token-of-" + c.Name + "-for-" + strings.Join(request.Spec.Audiences, ",")
		return true, request, nil
	})
	cfg := newBedConfig().withDefaults()
	cfg.Resolver.ClusterDNS = []string{"10.96.0.10"}
	return newResolver(client, cfg, newMemoryCloud().Capabilities(), clock.RealClock{})
}

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "default"}
}

func local(name string) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: name}
}

func field(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

func amount(container, resourceName, divisor string) *corev1.EnvVarSource {
	ref := &corev1.ResourceFieldSelector{ContainerName: container, Resource: resourceName}
	if divisor != "" {
		ref.Divisor = resource.MustParse(divisor)
	}
	return &corev1.EnvVarSource{ResourceFieldRef: ref}
}

func fromMap(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local(name), Key: key, Optional: &optional}}
}

func fromSecret(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(name), Key: key, Optional: &optional}}
}

func TestEnvironment(t *testing.T) {
	objects := []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: object("settings"), Data: map[string]string{"B": "two", "A": "one"}},
		&corev1.Secret{ObjectMeta: object("login"), Data: map[string][]byte{"password": []byte("hunter2")}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes", Namespace: "default"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "https", Port: 443, Protocol: "TCP"}}}},
		&corev1.Service{ObjectMeta: object("my-db"), Spec: corev1.ServiceSpec{ClusterIP: "fd00::7", Ports: []corev1.ServicePort{{Port: 5432}}}},
		&corev1.Service{ObjectMeta: object("headless"), Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 1}}}},
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere", Namespace: "other"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 1}}}},
	}
	master := []providers.EnvVar{
		{Name: "KUBERNETES_PORT", Value: "tcp://10.96.0.1:443"}, {Name: "KUBERNETES_PORT_443_TCP", Value: "tcp://10.96.0.1:443"},
		{Name: "KUBERNETES_PORT_443_TCP_ADDR", Value: "10.96.0.1"}, {Name: "KUBERNETES_PORT_443_TCP_PORT", Value: "443"},
		{Name: "KUBERNETES_PORT_443_TCP_PROTO", Value: "tcp"}, {Name: "KUBERNETES_SERVICE_HOST", Value: "10.96.0.1"},
		{Name: "KUBERNETES_SERVICE_PORT", Value: "443"}, {Name: "KUBERNETES_SERVICE_PORT_HTTPS", Value: "443"},
	}
	db := []providers.EnvVar{
		{Name: "MY_DB_PORT", Value: "tcp://[fd00::7]:5432"}, {Name: "MY_DB_PORT_5432_TCP", Value: "tcp://[fd00::7]:5432"},
		{Name: "MY_DB_PORT_5432_TCP_ADDR", Value: "fd00::7"}, {Name: "MY_DB_PORT_5432_TCP_PORT", Value: "5432"},
		{Name: "MY_DB_PORT_5432_TCP_PROTO", Value: "tcp"}, {Name: "MY_DB_SERVICE_HOST", Value: "fd00::7"}, {Name: "MY_DB_SERVICE_PORT", Value: "5432"},
	}
	for name, test := range map[string]struct {
		env         []corev1.EnvVar
		from        []corev1.EnvFromSource
		links       bool
		want        []providers.EnvVar // those of services apart
		missing     string
		unsupported string
	}{
		"literal, in order":               {env: []corev1.EnvVar{{Name: "Z", Value: "1"}, {Name: "A", Value: "2"}}, want: []providers.EnvVar{{Name: "Z", Value: "1"}, {Name: "A", Value: "2"}}},
		"services of the namespace":       {links: true},
		"refers to an earlier one":        {env: []corev1.EnvVar{{Name: "A", Value: "x"}, {Name: "B", Value: "$(A)$(C)"}, {Name: "C", Value: "y"}}, want: []providers.EnvVar{{Name: "A", Value: "x"}, {Name: "B", Value: "x$(C)"}, {Name: "C", Value: "y"}}},
		"refers to a service":             {env: []corev1.EnvVar{{Name: "API", Value: "https://$(KUBERNETES_SERVICE_HOST)"}}, want: []providers.EnvVar{{Name: "API", Value: "https://10.96.0.1"}}},
		"the last of a name wins":         {env: []corev1.EnvVar{{Name: "A", Value: "x"}, {Name: "A", Value: "$(A)y"}}, want: []providers.EnvVar{{Name: "A", Value: "xy"}}},
		"envFrom below env":               {from: []corev1.EnvFromSource{{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("settings")}}}, env: []corev1.EnvVar{{Name: "P_A", Value: "own"}}, want: []providers.EnvVar{{Name: "P_A", Value: "own"}, {Name: "P_B", Value: "two"}}},
		"envFrom a secret":                {from: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("login")}}}, want: []providers.EnvVar{{Name: "password", Value: "hunter2", Secret: true}}},
		"envFrom nothing, optional":       {from: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("none"), Optional: ptr.To(true)}}}},
		"envFrom nothing":                 {from: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("none")}}}, missing: `configmap "none"`},
		"a secret spreads":                {env: []corev1.EnvVar{{Name: "PW", ValueFrom: fromSecret("login", "password", false)}, {Name: "URL", Value: "db://u:$(PW)@h"}}, want: []providers.EnvVar{{Name: "PW", Value: "hunter2", Secret: true}, {Name: "URL", Value: "db://u:hunter2@h", Secret: true}}},
		"key of a ConfigMap":              {env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "A", false)}}, want: []providers.EnvVar{{Name: "A", Value: "one"}}},
		"key that is not there":           {env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "none", false)}}, missing: `key "none" in configmap "settings"`},
		"key that is not there, optional": {env: []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("settings", "none", true)}, {Name: "B", ValueFrom: fromSecret("none", "k", true)}}},
		"secret that is not there":        {env: []corev1.EnvVar{{Name: "A", ValueFrom: fromSecret("none", "k", false)}}, missing: `secret "none"`},
		"fields": {env: []corev1.EnvVar{
			{Name: "NAME", ValueFrom: field("metadata.name")}, {Name: "NS", ValueFrom: field("metadata.namespace")}, {Name: "UID", ValueFrom: field("metadata.uid")},
			{Name: "LABEL", ValueFrom: field("metadata.labels['app.kubernetes.io/name']")}, {Name: "NONE", ValueFrom: field("metadata.annotations['none']")},
			{Name: "NODE", ValueFrom: field("spec.nodeName")}, {Name: "SA", ValueFrom: field("spec.serviceAccountName")},
			{Name: "HOST", ValueFrom: field("status.hostIP")}, {Name: "IP", ValueFrom: field("status.podIP")},
		}, want: []providers.EnvVar{
			{Name: "NAME", Value: "web"}, {Name: "NS", Value: "default"}, {Name: "UID", Value: "uid-web"}, {Name: "LABEL", Value: "shop"}, {Name: "NONE"},
			{Name: "NODE", Value: testNode}, {Name: "SA", Value: "default"}, {Name: "HOST", Value: "192.0.2.1"}, {Name: "IP", FieldPath: "status.podIP"},
		}},
		"address inside a value": {env: []corev1.EnvVar{{Name: "IP", ValueFrom: field("status.podIP")}, {Name: "URL", Value: "http://$(IP)"}}, unsupported: "spec.containers[0].env[1].value"},
		"unknown field":          {env: []corev1.EnvVar{{Name: "X", ValueFrom: field("status.phase")}}, unsupported: "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath"},
		"resources": {env: []corev1.EnvVar{
			{Name: "CPU", ValueFrom: amount("", "requests.cpu", "")}, {Name: "MILLI", ValueFrom: amount("", "requests.cpu", "1m")},
			{Name: "MEM", ValueFrom: amount("", "limits.memory", "1Mi")}, {Name: "BYTES", ValueFrom: amount("app", "limits.memory", "")},
			{Name: "NODE", ValueFrom: amount("", "limits.cpu", "")}, {Name: "DISK", ValueFrom: amount("", "requests.ephemeral-storage", "")},
		}, want: []providers.EnvVar{
			{Name: "CPU", Value: "1"}, {Name: "MILLI", Value: "250"}, {Name: "MEM", Value: "129"}, {Name: "BYTES", Value: "135000000"},
			{Name: "NODE", Value: "10000"}, {Name: "DISK", Value: "0"},
		}},
		"unknown resource":  {env: []corev1.EnvVar{{Name: "X", ValueFrom: amount("", "limits.gpu", "")}}, unsupported: "resourceFieldRef"},
		"unknown container": {env: []corev1.EnvVar{{Name: "X", ValueFrom: amount("none", "limits.cpu", "")}}, unsupported: "resourceFieldRef"},
		"file of a volume":  {env: []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{FileKeyRef: &corev1.FileKeySelector{}}}}, unsupported: "spec.containers[0].env[0].valueFrom"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod("web", func(p *corev1.Pod) {
				p.Labels = map[string]string{"app.kubernetes.io/name": "shop"}
				p.Spec.EnableServiceLinks = &test.links
				c := &p.Spec.Containers[0]
				c.Env, c.EnvFrom = test.env, test.from
				c.Resources = corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")}, Limits: corev1.ResourceList{"memory": resource.MustParse("135M")},
				}
			})
			spec, err := testResolver(t, copies(objects)...).resolve(t.Context(), pod, func(string, string) {})
			var missing *missingError
			var unsupported *unsupportedError
			switch {
			case test.missing != "":
				if !errors.As(err, &missing) || !strings.Contains(err.Error(), test.missing) {
					t.Errorf("error %v, want that %s is missing", err, test.missing)
				}
				return
			case test.unsupported != "":
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), test.unsupported) {
					t.Errorf("error %v, want that %s is not supported", err, test.unsupported)
				}
				return
			case err != nil:
				t.Fatal(err)
			}
			want := append(append([]providers.EnvVar{}, test.want...), master...)
			if test.links {
				want = append(want, db...)
			}
			if diff := cmp.Diff(want, spec.Containers[0].Env); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func copies(objects []runtime.Object) []runtime.Object {
	var out []runtime.Object
	for _, o := range objects {
		out = append(out, o.DeepCopyObject())
	}
	return out
}

func claimOf(name string) corev1.VolumeSource {
	return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}
}

// boundClaims are claims and the volumes that they are bound to.
func boundClaims() []runtime.Object {
	driver := func(edit func(*corev1.CSIPersistentVolumeSource)) corev1.PersistentVolumeSource {
		csi := corev1.CSIPersistentVolumeSource{
			Driver: "file.csi.azure.com", VolumeHandle: "share-1", VolumeAttributes: map[string]string{"shareName": "data"},
			NodeStageSecretRef: &corev1.SecretReference{Name: "storage", Namespace: "vault"},
		}
		edit(&csi)
		return corev1.PersistentVolumeSource{CSI: &csi}
	}
	bound := map[string]corev1.PersistentVolumeSpec{
		"share":   {PersistentVolumeSource: corev1.PersistentVolumeSource{AzureFile: &corev1.AzureFilePersistentVolumeSource{SecretName: "storage", ShareName: "data"}}},
		"driver":  {PersistentVolumeSource: driver(func(s *corev1.CSIPersistentVolumeSource) { s.ReadOnly = true })},
		"disk":    {PersistentVolumeSource: driver(func(s *corev1.CSIPersistentVolumeSource) { s.Driver = "disk.csi.azure.com" })},
		"dynamic": {PersistentVolumeSource: driver(func(s *corev1.CSIPersistentVolumeSource) { s.NodeStageSecretRef = nil })},
		"options": {PersistentVolumeSource: driver(func(*corev1.CSIPersistentVolumeSource) {}), MountOptions: []string{"nobrl"}},
	}
	objects := []runtime.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "vault", Name: "storage"}, Data: map[string][]byte{"azurestorageaccountname": []byte("shop"), "azurestorageaccountkey": []byte("a2V5")}},
		&corev1.PersistentVolumeClaim{ObjectMeta: object("waits"), Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending}},
	}
	for _, name := range []string{"share", "driver", "disk", "dynamic", "options", "lost"} {
		objects = append(objects, &corev1.PersistentVolumeClaim{
			ObjectMeta: object(name), Spec: corev1.PersistentVolumeClaimSpec{VolumeName: "pv-" + name}, Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		})
		if spec, ok := bound[name]; ok {
			objects = append(objects, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + name}, Spec: spec})
		}
	}
	return objects
}

func TestVolumes(t *testing.T) {
	objects := []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: object("settings"), Data: map[string]string{"b.conf": "two", "a.conf": "one"}, BinaryData: map[string][]byte{"raw": {0, 1}}},
		&corev1.Secret{ObjectMeta: object("login"), Data: map[string][]byte{"password": []byte("hunter2")}},
		&corev1.ConfigMap{ObjectMeta: object("kube-root-ca.crt"), Data: map[string]string{"ca.crt": "PEM"}},
		&corev1.Secret{ObjectMeta: object("storage"), Data: map[string][]byte{"azurestorageaccountname": []byte("shop\n"), "azurestorageaccountkey": []byte("a2V5")}},
	}
	objects = append(objects, boundClaims()...)
	file := func(path, data string, mode int32) providers.File {
		return providers.File{Path: path, Data: []byte(data), Mode: mode}
	}
	for name, test := range map[string]struct {
		source                         corev1.VolumeSource
		want                           providers.Volume
		missing, unsupported, apiError string
	}{
		"emptyDir":  {source: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Memory"}}, want: providers.Volume{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Memory"}}},
		"configMap": {source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings")}}, want: providers.Volume{Files: &providers.Files{Items: []providers.File{file("a.conf", "one", 0o644), file("b.conf", "two", 0o644), file("raw", "\x00\x01", 0o644)}}}},
		"configMap with items": {source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings"), DefaultMode: ptr.To[int32](0o400), Items: []corev1.KeyToPath{{Key: "b.conf", Path: "etc/b"}, {Key: "a.conf", Path: "a", Mode: ptr.To[int32](0o755)}}}},
			want: providers.Volume{Files: &providers.Files{Items: []providers.File{file("etc/b", "two", 0o400), file("a", "one", 0o755)}}}},
		"configMap without the item":           {source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings"), Items: []corev1.KeyToPath{{Key: "none", Path: "x"}}}}, missing: `non-existent key "none"`},
		"configMap without the item, optional": {source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("settings"), Optional: ptr.To(true), Items: []corev1.KeyToPath{{Key: "none", Path: "x"}}}}, want: providers.Volume{Files: &providers.Files{}}},
		"configMap that is not there":          {source: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: local("none")}}, missing: `MountVolume.SetUp failed for volume "v": configmap "none" not found`},
		"secret":                               {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "login"}}, want: providers.Volume{Files: &providers.Files{Secret: true, Items: []providers.File{file("password", "hunter2", 0o644)}}}},
		"secret that is not there":             {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none"}}, missing: `secret "none" not found`},
		"secret that is not there, optional":   {source: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none", Optional: ptr.To(true)}}, want: providers.Volume{Files: &providers.Files{Secret: true}}},
		"downwardAPI": {source: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "app", Resource: "limits.cpu"}, Mode: ptr.To[int32](0o600)},
		}}}, want: providers.Volume{Files: &providers.Files{Items: []providers.File{file("labels", "a=\"1\"\nb=\"say \\\"x\\\"\"", 0o644), file("cpu", "10000", 0o600)}}}},
		"downwardAPI of what is not known": {source: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: []corev1.DownwardAPIVolumeFile{{Path: "x", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}}, unsupported: "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath"},
		"the token of a service account": {source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](0o644), Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: ptr.To[int64](3607), Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("kube-root-ca.crt"), Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}}}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
		}}}, want: providers.Volume{Files: &providers.Files{Secret: true, Items: []providers.File{file("token", "token-of-default-for-", 0o644), file("ca.crt", "PEM", 0o644), file("namespace", "default", 0o644)}}}},
		"later sources win": {source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: local("settings"), Items: []corev1.KeyToPath{{Key: "a.conf", Path: "x"}}}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: local("login"), Items: []corev1.KeyToPath{{Key: "password", Path: "x"}}}},
		}}}, want: providers.Volume{Files: &providers.Files{Secret: true, Items: []providers.File{file("x", "hunter2", 0o644)}}}},
		"azureFile": {source: corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "storage", ShareName: "data", ReadOnly: true}},
			want: providers.Volume{AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5", ReadOnly: true}}},
		"azureFile by its driver": {source: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "file.csi.azure.com", VolumeAttributes: map[string]string{"secretName": "storage", "shareName": "data"}}},
			want: providers.Volume{AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5"}}},
		"a claim of a share": {source: claimOf("share"),
			want: providers.Volume{AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5"}}},
		"a claim of a share by its driver": {source: claimOf("driver"),
			want: providers.Volume{AzureFile: &providers.AzureFile{Share: "data", AccountName: "shop", AccountKey: "a2V5", ReadOnly: true}}},
		"a claim of a disk":             {source: claimOf("disk"), unsupported: "spec.volumes[0].persistentVolumeClaim"},
		"a claim with mount options":    {source: claimOf("options"), unsupported: "spec.volumes[0].persistentVolumeClaim"},
		"a claim without its secret":    {source: claimOf("dynamic"), unsupported: "spec.volumes[0].persistentVolumeClaim"},
		"a claim that waits":            {source: claimOf("waits"), missing: `persistentvolumeclaim "waits" is not bound`},
		"a claim that is not there":     {source: claimOf("none"), missing: `persistentvolumeclaim "none" not found`},
		"a claim of a volume that went": {source: claimOf("lost"), missing: `persistentvolume "pv-lost", which was not found`},
		"azureFile without its secret":  {source: corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "none", ShareName: "data"}}, missing: `MountVolume.SetUp failed for volume "v": secret "none" not found`},
		"azureFile of another secret":   {source: corev1.VolumeSource{AzureFile: &corev1.AzureFileVolumeSource{SecretName: "login", ShareName: "data"}}, missing: `secret "login" has no key "azurestorageaccountname"`},
		"hostPath":                      {source: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}, unsupported: "spec.volumes[0]"},
		"a bundle":                      {source: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{}}}}}, unsupported: "spec.volumes[0].projected.sources[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod("web", func(p *corev1.Pod) {
				p.Labels = map[string]string{"b": `say "x"`, "a": "1"}
				p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: test.source}}
				p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
			})
			spec, err := testResolver(t, copies(objects)...).resolve(t.Context(), pod, func(string, string) {})
			var missing *missingError
			var unsupported *unsupportedError
			switch {
			case test.missing != "":
				if !errors.As(err, &missing) || !strings.Contains(err.Error(), test.missing) {
					t.Errorf("error %v, want %s", err, test.missing)
				}
			case test.unsupported != "":
				if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), test.unsupported) {
					t.Errorf("error %v, want that %s is not supported", err, test.unsupported)
				}
			case err != nil:
				t.Error(err)
			default:
				test.want.Name = "v"
				if diff := cmp.Diff([]providers.Volume{test.want}, spec.Volumes); diff != "" {
					t.Errorf("volumes (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCommandsAndMountsAreExpanded(t *testing.T) {
	pod := testPod("web", func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, {Name: "unused", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "x"}}
		p.Spec.Containers[0].Command = []string{"run", "$(A)", "$$(A)"}
		p.Spec.Containers[0].Args = []string{"--name=$(A)", "$(NONE)"}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPathExpr: "dir-$(A)"}}
	})
	spec, err := testResolver(t).resolve(t.Context(), pod, func(string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	c := spec.Containers[0]
	if diff := cmp.Diff([]string{"run", "x", "$(A)", "--name=x", "$(NONE)"}, append(c.Command, c.Args...)); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "dir-x"}}, c.Mounts); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
	if len(spec.Volumes) != 1 || pod.Spec.Containers[0].VolumeMounts[0].SubPathExpr == "" {
		t.Errorf("volumes %+v; the pod itself must stay as it is", spec.Volumes)
	}
}

func TestDNS(t *testing.T) {
	cluster := &providers.DNS{
		Default:     true,
		Nameservers: []string{"10.96.0.10"}, Searches: []string{"default.svc.cluster.local", "svc.cluster.local", "cluster.local"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("5")}},
	}
	for name, test := range map[string]struct {
		policy corev1.DNSPolicy
		config *corev1.PodDNSConfig
		none   bool // the agent knows no cluster DNS
		want   *providers.DNS
		warns  bool
	}{
		"ClusterFirst":            {policy: corev1.DNSClusterFirst, want: cluster},
		"unset":                   {want: cluster},
		"ClusterFirst, no server": {policy: corev1.DNSClusterFirst, none: true, warns: true},
		"Default":                 {policy: corev1.DNSDefault},
		"None":                    {policy: corev1.DNSNone, config: &corev1.PodDNSConfig{Nameservers: []string{"1.1.1.1"}}, want: &providers.DNS{Nameservers: []string{"1.1.1.1"}}},
		"merged": {policy: corev1.DNSClusterFirst, config: &corev1.PodDNSConfig{Nameservers: []string{"10.96.0.10", "1.1.1.1"}, Searches: []string{"example.com"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}}},
			want: &providers.DNS{Nameservers: []string{"10.96.0.10", "1.1.1.1"}, Searches: append(append([]string{}, cluster.Searches...), "example.com"), Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := testResolver(t)
			if test.none {
				r.settings.ClusterDNS = nil
			}
			warned := false
			got := r.dns(testPod("web", func(p *corev1.Pod) { p.Spec.DNSPolicy, p.Spec.DNSConfig = test.policy, test.config }), func(string, string) { warned = true })
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("DNS (-want +got):\n%s", diff)
			}
			if warned != test.warns {
				t.Errorf("warned %t, want %t", warned, test.warns)
			}
		})
	}
}

func TestRegistryCredentials(t *testing.T) {
	const hub = `{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnc="}}}` // u:p:w
	const private = `{"auths":{"registry.example.com:5000":{"username":"me","password":"pw"},"*.azurecr.io":{"username":"az","password":"pw2"},"other.example.com":{"username":"no","password":"no"}}}`
	secret := func(name, key, data string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: object(name), Data: map[string][]byte{key: []byte(data)}}
	}
	for name, test := range map[string]struct {
		images  []string
		secrets []runtime.Object
		refs    []string
		want    []providers.RegistryCredential
		warns   int
	}{
		"Docker Hub":         {[]string{"nginx", "library/nginx"}, []runtime.Object{secret("s", ".dockerconfigjson", hub)}, []string{"s"}, []providers.RegistryCredential{{Server: "index.docker.io", Username: "u", Password: "p:w"}}, 0},
		"private":            {[]string{"registry.example.com:5000/a/b:c", "shop.azurecr.io/x"}, []runtime.Object{secret("s", ".dockerconfigjson", private)}, []string{"s"}, []providers.RegistryCredential{{Server: "shop.azurecr.io", Username: "az", Password: "pw2"}, {Server: "registry.example.com:5000", Username: "me", Password: "pw"}}, 0},
		"old form":           {[]string{"r.example.com/x"}, []runtime.Object{secret("s", ".dockercfg", `{"r.example.com":{"username":"me","password":"pw"}}`)}, []string{"s"}, []providers.RegistryCredential{{Server: "r.example.com", Username: "me", Password: "pw"}}, 0},
		"not for the images": {[]string{"quay.io/x/y"}, []runtime.Object{secret("s", ".dockerconfigjson", private)}, []string{"s"}, nil, 0},
		"first wins":         {[]string{"r.example.com/x"}, []runtime.Object{secret("a", ".dockercfg", `{"r.example.com":{"username":"a","password":"1"}}`), secret("b", ".dockercfg", `{"r.example.com":{"username":"b","password":"2"}}`)}, []string{"a", "b"}, []providers.RegistryCredential{{Server: "r.example.com", Username: "a", Password: "1"}}, 0},
		"not there":          {[]string{"nginx"}, nil, []string{"none"}, nil, 1},
		"broken":             {[]string{"nginx"}, []runtime.Object{secret("s", ".dockerconfigjson", `{"auths":{"docker.io":{"auth":"hunter2"}}}`)}, []string{"s"}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod("web", func(p *corev1.Pod) {
				p.Spec.Containers = nil
				for _, image := range test.images {
					p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "c", Image: image})
				}
				for _, ref := range test.refs {
					p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, local(ref))
				}
			})
			warns := 0
			got, err := testResolver(t, test.secrets...).registryCredentials(context.Background(), pod, func(_, message string) {
				warns++
				if strings.Contains(message, "hunter2") {
					t.Errorf("the message has a secret: %s", message)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("credentials (-want +got):\n%s", diff)
			}
			if warns != test.warns {
				t.Errorf("%d warnings, want %d", warns, test.warns)
			}
		})
	}
}

// A token that may end before its pod is told, since a group gets no new one.
func TestTokenThatEndsEarly(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, test := range map[string]struct {
		granted  time.Duration
		deadline time.Duration
		told     bool
	}{
		"as long as asked":           {granted: year},
		"an hour":                    {granted: time.Hour, told: true},
		"an hour, the pod has less":  {granted: time.Hour, deadline: 59 * time.Minute},
		"an hour, the pod has more":  {granted: time.Hour, deadline: 2 * time.Hour, told: true},
		"the API server says no end": {},
	} {
		t.Run(name, func(t *testing.T) {
			r := testResolver(t)
			client, _ := r.client.(*fake.Clientset)
			var asked time.Duration
			client.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
				request := a.(clienttesting.CreateActionImpl).Object.(*authv1.TokenRequest).DeepCopy()
				asked = time.Duration(*request.Spec.ExpirationSeconds) * time.Second
				if test.granted > 0 {
					request.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(test.granted))
				}
				request.Status.Token = "t0ken"
				return true, request, nil
			})
			pod := testPod("web", func(p *corev1.Pod) {
				p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptr.To[int64](600), Path: "token"}},
				}}}}}
				if test.deadline > 0 {
					p.Spec.ActiveDeadlineSeconds = ptr.To(int64(test.deadline.Seconds()))
				}
			})
			told := false
			_, err := r.resolve(t.Context(), pod, func(reason, message string) {
				told = told || reason == reasonTokenEnds
				if strings.Contains(message, "t0ken") || reason == reasonTokenEnds && !strings.Contains(message, "vault") {
					t.Errorf("%s: %s", reason, message)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if asked != year {
				t.Errorf("asked for %s", asked)
			}
			if told != test.told {
				t.Errorf("told %t, want %t", told, test.told)
			}
		})
	}
}

// What optional objects and odd keys come to is told by the reasons of events that
// virtual kubelets have.
func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*corev1.Container)
		want string
	}{
		"optional ConfigMap": {func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("none", "k", true)}}
		}, "OptionalConfigMapNotFound"},
		"optional key of a ConfigMap": {func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: fromMap("odd", "none", true)}}
		}, "OptionalConfigMapKeyNotFound"},
		"optional Secret": {func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: fromSecret("none", "k", true)}}
		}, "OptionalSecretNotFound"},
		"keys that are no names": {func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("odd")}}}
		}, "InvalidEnvironmentVariableNames"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := testPod("web", func(p *corev1.Pod) { test.edit(&p.Spec.Containers[0]) })
			var got []string
			spec, err := testResolver(t, &corev1.ConfigMap{ObjectMeta: object("odd"), Data: map[string]string{"app.properties": "hunter2", "ok": "1"}}).
				resolve(t.Context(), pod, func(reason, message string) {
					got = append(got, reason)
					if strings.Contains(message, "hunter2") {
						t.Errorf("the message has a value: %s", message)
					}
				})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			for _, e := range spec.Containers[0].Env {
				if e.Name == "app.properties" || e.Name == "A" {
					t.Errorf("variable %s is set", e.Name)
				}
			}
		})
	}
}
