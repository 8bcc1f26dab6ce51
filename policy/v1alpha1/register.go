package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is autoburst.io/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: GroupName, Version: "v1alpha1"}

// AddToScheme adds the types of this package to a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&BurstPolicy{}, &BurstPolicyList{},
		&ClusterBurstPolicy{}, &ClusterBurstPolicyList{},
		&BurstAdmission{}, &BurstAdmissionList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
