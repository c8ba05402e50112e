{{/* The name of what the chart makes: the release's, with the chart's unless it is in it. */}}
{{- define "baton-airflow.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 55 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 55 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 55 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* What a Deployment selects its pods by; can't change after the first install. */}}
{{- define "baton-airflow.selectorLabels" -}}
app: baton-airflow
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "baton-airflow.labels" -}}
{{ include "baton-airflow.selectorLabels" . }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "baton-airflow.secretName" -}}
{{- .Values.existingSecret | default (printf "%s-secrets" (include "baton-airflow.fullname" .)) -}}
{{- end }}

{{- define "baton-airflow.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "baton-airflow.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end }}

{{/* A volume with the PEM file that .configMap or .secret holds under .key. */}}
{{- define "baton-airflow.caVolume" -}}
{{- if .configMap -}}
configMap:
  name: {{ .configMap }}
{{- else -}}
secret:
  secretName: {{ .secret }}
{{- end }}
  items:
    - key: {{ .key }}
      path: ca.crt
{{- end }}

{{/* Fails where the settings can't make a connector that starts. */}}
{{- define "baton-airflow.check" -}}
{{- with .Values.airflow -}}
{{- if and .password .token }}{{ fail "airflow.password and airflow.token are both set: the connector takes one of them" }}{{ end -}}
{{- end -}}
{{- if not .Values.existingSecret -}}
{{- $_ := required "controlPlane.clientId is not set, nor existingSecret" .Values.controlPlane.clientId -}}
{{- $_ := required "controlPlane.clientSecret is not set, nor existingSecret" .Values.controlPlane.clientSecret -}}
{{- $_ := required "airflow.baseUrl is not set, nor existingSecret" .Values.airflow.baseUrl -}}
{{- $_ := required "neither airflow.password nor airflow.token is set, nor existingSecret" (coalesce .Values.airflow.password .Values.airflow.token) -}}
{{- if .Values.airflow.password -}}
{{- $_ := required "airflow.username is not set" .Values.airflow.username -}}
{{- end -}}
{{- else if or .Values.controlPlane.clientId .Values.controlPlane.clientSecret .Values.airflow.password .Values.airflow.token -}}
{{- fail "existingSecret is set: put the client ID, the client secret, the password and the token into that Secret, not into values" -}}
{{- end -}}
{{- if and .Values.airflow.caCert.configMap .Values.airflow.caCert.secret }}{{ fail "airflow.caCert names a ConfigMap and a Secret: name one" }}{{ end -}}
{{- if and .Values.controlPlane.caCertificate.configMap .Values.controlPlane.caCertificate.secret }}{{ fail "controlPlane.caCertificate names a ConfigMap and a Secret: name one" }}{{ end -}}
{{- end }}
