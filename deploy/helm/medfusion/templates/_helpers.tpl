{{- define "medfusion.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects pods: (list . "front") */}}
{{- define "medfusion.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "medfusion.labels" -}}
{{ include "medfusion.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end -}}

{{/* Settings as environment: one dictionary, MEDFUSION_SECTION_KEY */}}
{{- define "medfusion.environment" -}}
{{- range $key, $value := . }}
- name: MEDFUSION_{{ $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* What a pod of ours is allowed: nothing */}}
{{- define "medfusion.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "medfusion.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "medfusion.mounts" -}}
- {name: config, mountPath: /etc/medfusion, readOnly: true}
- {name: secrets, mountPath: /run/secrets/medfusion, readOnly: true}
- {name: data, mountPath: /var/lib/medfusion}
- {name: payloads, mountPath: /var/lib/medfusion/payloads}
- {name: tmp, mountPath: /tmp}
{{- if .Values.models.existingClaim }}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end -}}

{{- define "medfusion.volumes" -}}
- name: config
  configMap: {name: {{ include "medfusion.name" . }}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret: {name: {{ .Values.secrets.database }}, items: [{key: database, path: database}]}
      - secret: {name: {{ .Values.secrets.keys }}, items: [{key: keys.json, path: keys.json}]}
- name: data
  emptyDir: {sizeLimit: 2Gi}
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
- name: payloads
  persistentVolumeClaim: {claimName: {{ .Values.payloads.existingClaim | default (printf "%s-payloads" (include "medfusion.name" .)) }}}
{{- if .Values.models.existingClaim }}
- name: models
  persistentVolumeClaim: {claimName: {{ .Values.models.existingClaim }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* Replicas apart from each other: (list . "front") */}}
{{- define "medfusion.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "medfusion.selector" . | nindent 6 }}
{{- end -}}
