{{- define "keepgate.labels" -}}
app.kubernetes.io/name: keepgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
