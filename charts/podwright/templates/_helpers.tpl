{{- define "podwright.image" -}}
{{- $repository := required "image.repository is not set: build and push the image (make image PUSH=registry.example.com/team), then install with --set image.repository=registry.example.com/team/podwright --set-string image.tag=TAG" .Values.image.repository -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "podwright.labels" -}}
app.kubernetes.io/name: podwright
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Nothing is found where there is no cluster to ask (helm template), and that is no reason to stop. */}}
{{- define "podwright.checkNamespaces" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" -}}
{{- range $namespace := include "podwright.taskNamespaces" . | fromJsonArray -}}
{{- if not (or (eq $namespace $.Release.Namespace) (lookup "v1" "Namespace" "" $namespace)) -}}
{{- fail (printf "the namespace %s of taskNamespaces does not exist: create it (kubectl create namespace %s), or take it out" $namespace $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "podwright.taskNamespaces" -}}
{{- .Values.taskNamespaces | default (list .Release.Namespace) | toJson -}}
{{- end -}}

{{- define "podwright.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "podwright.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* policyBinding (list ROOT NAME): the policy holds where the release serves. */}}
{{- define "podwright.policyBinding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s-%s" $root.Release.Namespace $root.Release.Name (index . 1) -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels: {{- include "podwright.labels" $root | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
  {{- if not $root.Values.allNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: In
          values: {{ include "podwright.taskNamespaces" $root }}
  {{- end }}
{{- end -}}
