{{- define "pgpassport.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pgpassport.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pgpassport.selector" -}}
app.kubernetes.io/name: {{ include "pgpassport.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pgpassport.labels" -}}
{{ include "pgpassport.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "pgpassport.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pgpassport.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "pgpassport.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "pgpassport.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{- .Values.tls.existingSecret -}}
{{- else if .Values.tls.certManager.enabled -}}
{{- printf "%s-tls" (include "pgpassport.fullname" .) -}}
{{- else -}}
{{- fail "tls: name a Secret in tls.existingSecret, or enable tls.certManager" -}}
{{- end -}}
{{- end -}}

{{- define "pgpassport.cancelSecret" -}}
{{- default (printf "%s-cancel" (include "pgpassport.fullname" .)) .Values.cancel.existingSecret -}}
{{- end -}}

{{- define "pgpassport.configMap" -}}
{{- default (printf "%s-config" (include "pgpassport.fullname" .)) .Values.existingConfigMap -}}
{{- end -}}

{{/* The keys of one TOML table; JSON's texts, numbers, booleans and lists of them are TOML's. */}}
{{- define "pgpassport.tomlKeys" -}}
{{- range $key, $value := . }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end -}}

{{/* proxy.toml */}}
{{- define "pgpassport.config" -}}
{{- $listen := dict "addr" "0.0.0.0:5432" "tls_cert_file" "/etc/pgpassport/tls/tls.crt" "tls_key_file" "/etc/pgpassport/tls/tls.key" -}}
{{- if .Values.service.nlb.enabled -}}
{{- if not .Values.service.nlb.sourceNetworks -}}
{{- fail "service.nlb.sourceNetworks: name the load balancer's subnets; the proxy accepts PROXY headers from there only" -}}
{{- end -}}
{{- $_ := set $listen "proxy_protocol_from" .Values.service.nlb.sourceNetworks -}}
{{- end -}}
{{- if hasKey .Values.limits "shutdown_delay" -}}{{- fail "limits.shutdown_delay: set shutdown.delaySeconds" -}}{{- end -}}
{{- if hasKey .Values.limits "shutdown_timeout" -}}{{- fail "limits.shutdown_timeout: set shutdown.timeoutSeconds" -}}{{- end -}}
{{- $shutdown := dict "shutdown_delay" (printf "%ds" (int .Values.shutdown.delaySeconds)) "shutdown_timeout" (printf "%ds" (int .Values.shutdown.timeoutSeconds)) -}}
# Written by the chart. Change the chart's values instead.
[listen]
{{- include "pgpassport.tomlKeys" (merge (dict) .Values.listen $listen) }}

[limits]
{{- include "pgpassport.tomlKeys" (merge (dict) $shutdown .Values.limits) }}

[admin]
addr = "0.0.0.0:9127"
public = true

[log]
{{- include "pgpassport.tomlKeys" .Values.log }}
{{- if .Values.audit }}

[audit]
{{- include "pgpassport.tomlKeys" .Values.audit }}
{{- end }}

[cancel]
secret_file = "/etc/pgpassport/cancel/secret"

{{ .Values.config | trim }}
{{ end -}}

{{/* The volumes and mounts that every container of the chart has. */}}
{{- define "pgpassport.volumes" -}}
- name: config
  configMap:
    name: {{ include "pgpassport.configMap" . }}
- name: tls
  secret:
    secretName: {{ include "pgpassport.tlsSecret" . }}
    defaultMode: 288 # 0440
- name: cancel
  secret:
    secretName: {{ include "pgpassport.cancelSecret" . }}
    defaultMode: 288 # 0440
{{- with .Values.authorities.existingConfigMap }}
- name: authorities
  configMap:
    name: {{ . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pgpassport.mounts" -}}
- name: config
  mountPath: /etc/pgpassport/config
  readOnly: true
- name: tls
  mountPath: /etc/pgpassport/tls
  readOnly: true
- name: cancel
  mountPath: /etc/pgpassport/cancel
  readOnly: true
{{- if .Values.authorities.existingConfigMap }}
- name: authorities
  mountPath: /etc/pgpassport/ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pgpassport.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pgpassport.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
