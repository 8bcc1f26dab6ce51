package burstable

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// WaiveAnnotation of a pod names fields, separated by commas, that the pod may run
// without on a virtual node: its owner's word that losing them is better than
// staying local. The owner of a virtual node may say so for all of its pods
// ([Capabilities].Waived).
const WaiveAnnotation = "autoburst.io/waive"

// waivable are the only fields that can be waived: the containers of a pod do the
// same without them, less guarded or less known by name. It is in the order of the
// pod API.
var waivable = []struct{ field, without string }{
	{"subdomain", "The name below the headless Service stays in the cluster's DNS, which makes it of EndpointSlices; inside the pod, hostname -f does not show it."},
	{"securityContext.seLinuxOptions", "The processes have the cloud's label."},
	{"securityContext.runAsNonRoot", "An image whose user is root runs as root."},
	{"securityContext.supplementalGroups", "The processes have the groups of the image only."},
	{"securityContext.fsGroup", "Volumes belong to root; files are readable by their mode."},
	{"securityContext.seccompProfile", "The system calls are those that the cloud allows."},
	{"securityContext.appArmorProfile", "The processes have the cloud's profile."},
	{"securityContext.capabilities.drop", "The processes keep the cloud's default capabilities."},
	{"securityContext.readOnlyRootFilesystem", "The containers can write to their image."},
	{"securityContext.allowPrivilegeEscalation", "Programs with the setuid bit can gain rights inside the container."},
}

// Waivable are the fields that a pod or a virtual node can waive, as [WaiveAnnotation]
// names them.
func Waivable() []string {
	names := make([]string, len(waivable))
	for i := range waivable {
		names[i] = waivable[i].field
	}
	return names
}

// Without says what a pod runs without that waives the field; "" for a field that
// cannot be waived.
func Without(field string) string {
	for i := range waivable {
		if waivable[i].field == field {
			return waivable[i].without
		}
	}
	return ""
}

// ParseWaived reads a list of fields to waive. bad are those that cannot be waived.
func ParseWaived(list string) (fields, bad []string) {
	for name := range strings.SplitSeq(list, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "":
		case Without(name) == "":
			bad = append(bad, name)
		case !slices.Contains(fields, name):
			fields = append(fields, name)
		}
	}
	return fields, bad
}

// Remarks are what a pod that passes [Check] runs without: fields of it that the
// cloud cannot carry out and that were waived, and annotations of the cloud that
// have no effect. Nothing of that is to happen in silence. A field that several
// containers have is there once, as that of the first.
func Remarks(pod *corev1.Pod, c Capabilities) []Refusal {
	_, waived := sift(pod, &c, check(pod, c))
	var out []Refusal
	more := map[string]int{}
	for _, r := range waived {
		name := waivedName(r.Field)
		if more[name]++; more[name] == 1 {
			out = append(out, r)
		}
	}
	for i := range out {
		name := waivedName(out[i].Field)
		if n := more[name] - 1; n > 0 {
			out[i].Message += " So it is for " + strconv.Itoa(n) + " more of its containers."
		}
		out[i].Message += " It was waived. " + Without(name)
	}
	return append(out, eciRemarks(pod, &c)...)
}

// sift parts what is in the way from what was waived.
func sift(pod *corev1.Pod, c *Capabilities, all []Refusal) (refused, waived []Refusal) {
	wish, wishes := pod.Annotations[WaiveAnnotation]
	if !wishes && (len(all) == 0 || len(c.Waived) == 0) {
		return all, nil
	}
	fields, bad := ParseWaived(wish)
	for _, r := range all {
		if name := waivedName(r.Field); slices.Contains(c.Waived, name) || slices.Contains(fields, name) {
			waived = append(waived, r)
		} else {
			refused = append(refused, r)
		}
	}
	if len(bad) > 0 {
		refused = append(refused, Refusal{
			Field:   annotationField(WaiveAnnotation),
			Message: "It names " + strings.Join(bad, ", ") + ", which cannot be waived; what can is " + strings.Join(Waivable(), ", ") + ".",
		})
	}
	return refused, waived
}

// waivedName is a refused field as a waiver names it: of whatever container.
func waivedName(field string) string {
	name := make([]byte, 0, len(field))
	inside := false
	for i := range len(field) {
		switch b := field[i]; {
		case b == '[':
			inside = true
		case b == ']':
			inside = false
		case !inside:
			name = append(name, b)
		}
	}
	for _, prefix := range []string{"spec.containers.", "spec.initContainers.", "spec."} {
		if rest, ok := strings.CutPrefix(string(name), prefix); ok {
			return rest
		}
	}
	return string(name)
}

// annotationField is how a refusal names an annotation.
func annotationField(key string) string { return "metadata.annotations[" + key + "]" }
