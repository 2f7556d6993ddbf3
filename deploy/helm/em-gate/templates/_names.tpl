{{/* Names and labels. Suffixes add up to 24 characters, and KEDA puts 9 before the longest name. */}}
{{- define "em-gate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 30 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What finds every pod of this release, and nothing else. */}}
{{- define "em-gate.releaseSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What finds the pods of one part. Takes root, component, and pool for an engine worker. */}}
{{- define "em-gate.selector" -}}
{{ include "em-gate.releaseSelector" .root }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
emgate/pool: {{ . }}
{{- end }}
{{- end -}}

{{/* Labels of an object. Takes the same. */}}
{{- define "em-gate.labels" -}}
{{- if .component -}}
{{ include "em-gate.selector" . }}
{{- else -}}
{{ include "em-gate.releaseSelector" .root }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/*
The workers of this release as JSON: a list of {component, name, queues, pool}. Deployments,
disruption budgets and monitors go over this list, so that none is forgotten.
*/}}
{{- define "em-gate.workers" -}}
{{- $full := include "em-gate.fullname" . -}}
{{- $found := list -}}
{{- $names := list -}}
{{- range .Values.workers -}}
{{- if has .name $names }}{{ fail (printf "workers: two of them are called %s" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- $pool := mergeOverwrite (deepCopy $.Values.workerDefaults) . -}}
{{- $found = append $found (dict "component" "worker" "name" (printf "%s-worker-%s" $full .name) "queues" "engine" "pool" $pool) -}}
{{- end -}}
{{- if .Values.judging.enabled -}}
{{- $found = append $found (dict "component" "judging" "name" (printf "%s-judging" $full) "queues" "judging" "pool" .Values.judging) -}}
{{- end -}}
{{- if .Values.files.hooks -}}
{{- $found = append $found (dict "component" "notifier" "name" (printf "%s-notifier" $full) "queues" "notification" "pool" .Values.notifier) -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}
