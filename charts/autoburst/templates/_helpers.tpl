{{/* Name of the chart in labels. */}}
{{- define "autoburst.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Start of all names. It leaves room for the longest suffix but that of virtual nodes. */}}
{{- define "autoburst.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 48 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Labels that select the pods of a component: (dict "root" $ "component" "controller"). */}}
{{- define "autoburst.selectorLabels" -}}
app.kubernetes.io/name: {{ include "autoburst.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .node }}
autoburst.io/virtual-node: {{ . | quote }}
{{- end }}
{{- end }}

{{/* All labels of an object of a component. */}}
{{- define "autoburst.labels" -}}
{{ include "autoburst.selectorLabels" . }}
app.kubernetes.io/part-of: autoburst
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "autoburst.controller.name" -}}
{{ include "autoburst.fullname" . }}-controller
{{- end }}

{{- define "autoburst.controller.serviceAccountName" -}}
{{- if .Values.controller.serviceAccount.create }}
{{- default (include "autoburst.controller.name" .) .Values.controller.serviceAccount.name }}
{{- else }}
{{- required "controller.serviceAccount.name is required when controller.serviceAccount.create is false" .Values.controller.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "autoburst.vnode.serviceAccountName" -}}
{{- if .Values.vnode.serviceAccount.create }}
{{- default (printf "%s-vnode" (include "autoburst.fullname" .)) .Values.vnode.serviceAccount.name }}
{{- else }}
{{- required "vnode.serviceAccount.name is required when vnode.serviceAccount.create is false" .Values.vnode.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Name of the objects of one virtual node: (dict "root" $ "node" $node). A name that must be cut gets a hash. */}}
{{- define "autoburst.vnode.name" -}}
{{- $name := printf "%s-vnode-%s" (include "autoburst.fullname" .root) (.node.name | replace "." "-") }}
{{- if or (gt (len $name) 63) (contains "." .node.name) }}
{{- $name = printf "%s-%s" ($name | trunc 54 | trimSuffix "-") (.node.name | sha256sum | trunc 8) }}
{{- end }}
{{- $name }}
{{- end }}

{{- define "autoburst.vnode.secretName" -}}
{{- $credentials := .node.credentials | default dict }}
{{- $credentials.existingSecret | default (include "autoburst.vnode.name" .) }}
{{- end }}

{{- define "autoburst.webhook.serviceName" -}}
{{ include "autoburst.fullname" . }}-webhook
{{- end }}

{{- define "autoburst.webhook.caSecretName" -}}
{{- default (printf "%s-webhook-ca" (include "autoburst.fullname" .)) .Values.webhook.caSecretName }}
{{- end }}

{{/* The Secret of the webhook's certificate where the program does not make its own; empty where it does. */}}
{{- define "autoburst.webhook.tlsSecretName" -}}
{{- if .Values.webhook.certManager.enabled }}
{{- include "autoburst.fullname" . }}-webhook-tls
{{- else }}
{{- .Values.webhook.tls.existingSecret }}
{{- end }}
{{- end }}

{{/* The ConfigMap that stops all bursting. The operator makes and deletes it; the chart must not, or an upgrade would lift a stop. */}}
{{- define "autoburst.switchName" -}}
{{ include "autoburst.fullname" . }}-switch
{{- end }}

{{/* The ConfigMap in which the elected replica keeps what is reserved under limits. It makes it by itself, once there are limits; the chart must not, or an upgrade would forget what is reserved. */}}
{{- define "autoburst.ledgerName" -}}
{{ include "autoburst.fullname" . }}-ledger
{{- end }}

{{/* Reference of an image: (dict "root" $ "image" .Values.controller.image). */}}
{{- define "autoburst.image" -}}
{{- $repository := .image.repository }}
{{- with .root.Values.global.imageRegistry }}
{{- $parts := splitList "/" $repository }}
{{- if regexMatch "[.:]|^localhost$" (first $parts) }}
{{- $parts = rest $parts }}
{{- end }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (join "/" $parts) }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $repository .image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{/* The given affinity, and in every term of its required node affinity that the node is not virtual: what makes bursting work must not burst. */}}
{{- define "autoburst.affinity" -}}
{{- $affinity := deepCopy . }}
{{- $local := dict "key" "type" "operator" "NotIn" "values" (list "virtual-kubelet") }}
{{- $node := get $affinity "nodeAffinity" | default dict }}
{{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict }}
{{- $terms := list }}
{{- range (get $required "nodeSelectorTerms" | default (list dict)) }}
{{- $terms = append $terms (merge (dict "matchExpressions" (append (.matchExpressions | default list) $local)) .) }}
{{- end }}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
{{- $_ := set $affinity "nodeAffinity" $node }}
{{- toYaml $affinity }}
{{- end }}

{{/* The namespaces that are never served, as a JSON list. */}}
{{- define "autoburst.excludedNamespaces" -}}
{{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* What the pods of hooks have in common with those of the controller: where they run, and as whom. */}}
{{- define "autoburst.hookPod" -}}
enableServiceLinks: false
automountServiceAccountToken: true
restartPolicy: Never
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.controller.podSecurityContext | nindent 2 }}
{{- with .Values.controller.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.controller.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- include "autoburst.affinity" dict | nindent 2 }}
{{- end }}

{{/* What runs kubectl-autoburst, which is in the controller's image. */}}
{{- define "autoburst.hookContainer" -}}
image: {{ include "autoburst.image" (dict "root" . "image" .Values.controller.image) }}
imagePullPolicy: {{ .Values.controller.image.pullPolicy }}
resources:
  requests: {cpu: 10m, memory: 32Mi}
  limits: {memory: 256Mi}
securityContext:
  {{- toYaml .Values.controller.securityContext | nindent 2 }}
{{- end }}
