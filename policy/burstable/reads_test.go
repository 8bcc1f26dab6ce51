package burstable

import "testing"

func TestReadsAnnotation(t *testing.T) {
	for _, tt := range []struct {
		provider, key string
		want          bool
	}{
		{"eci", "k8s.aliyun.com/eci-spot-strategy", true},
		{"eci", "k8s.aliyun.com/eip-bandwidth", true},
		{"eci", "k8s.aliyun.com/eci-fixed-ip", true},
		{"eci", "kubernetes.io/ingress-bandwidth", true},
		{"eci", "k8s.aliyun.com/eci-fail-strategy", false}, // has no effect at any time
		{"eci", "k8s.aliyun.com/eci-instance-id", false},   // an answer of ACK's
		{"eci", "autoburst.io/aci-zone", false},
		{"eci", "example.com/note", false},
		{"aci", "autoburst.io/aci-zone", true},
		{"aci", "virtual-kubelet.io/container-sku", true},
		{"aci", "microsoft.containerinstance.virtualnode.identity", true},
		{"aci", "k8s.aliyun.com/eci-spot-strategy", false},
		{"aci", "kubernetes.io/ingress-bandwidth", false}, // keeps the pod off
		{"", "autoburst.io/aci-zone", false},
	} {
		if got := ReadsAnnotation(tt.provider, tt.key); got != tt.want {
			t.Errorf("%s reads %s: %v, want %v", tt.provider, tt.key, got, tt.want)
		}
	}
}
