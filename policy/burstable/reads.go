package burstable

import "strings"

// ReadsAnnotation tells whether a cloud, by its short name, looks at an annotation of a
// pod when the pod's group is made. Afterwards no cloud does.
func ReadsAnnotation(provider, key string) bool {
	switch provider {
	case eciProvider:
		return isECI(key) && eciIgnored[key] == "" && !eciAnswers[strings.TrimPrefix(key, aliyun)]
	case aciProvider:
		return strings.HasPrefix(key, successorPrefix) || strings.HasPrefix(key, aciPrefix) || aciAlias[key]
	}
	return false
}

const aciProvider = "aci"

// aciAlias are the names of annotations that other virtual nodes of ACI have.
var aciAlias = func() map[string]bool {
	names := map[string]bool{}
	for _, a := range ACIAnnotations {
		for _, alias := range a.Aliases {
			names[alias] = true
		}
	}
	return names
}()
