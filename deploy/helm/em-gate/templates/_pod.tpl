{{/* Pieces of pods. */}}

{{/* Takes root and device. */}}
{{- define "em-gate.image" -}}
{{- $image := index .root.Values.images .device -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default (printf "%s-%s" .root.Chart.AppVersion .device)) -}}
{{- end -}}
{{- end -}}

{{/*
enableServiceLinks: with them a Service called gate-api would set GATE_API_PORT to tcp://…, which
the settings would refuse.
*/}}
{{- define "em-gate.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "em-gate.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where a pod may be scheduled. Takes a map with the usual fields. */}}
{{- define "em-gate.placement" -}}
{{- range $field := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with index $ $field }}
{{ $field }}: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "em-gate.databaseVariable" -}}
- name: GATE_DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.existingSecret }}, key: {{ .Values.secrets.databaseUrlKey }}}}
{{- end -}}

{{- define "em-gate.brokerVariable" -}}
- name: GATE_BROKER_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.existingSecret }}, key: {{ .Values.secrets.brokerUrlKey }}}}
{{- end -}}

{{/* Variables of one part that come from Secrets. Takes a map: NAME: {secret, key}. */}}
{{- define "em-gate.secretVariables" -}}
{{- range $name, $from := . }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key }}}}
{{- end }}
{{- end -}}

{{/* A setting as the text of an environment variable: text as it is, anything else as JSON. */}}
{{- define "em-gate.settingText" -}}
{{- if kindIs "string" . }}{{ . | quote }}{{ else }}{{ toJson . | quote }}{{ end -}}
{{- end -}}

{{/* Restarts pods when what they read at their start has changed. */}}
{{- define "em-gate.checksums" -}}
emgate/settings: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
{{- end -}}

{{- define "em-gate.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /var/cache/em-gate}
- {name: home, mountPath: /var/lib/em-gate}
{{- if include "em-gate.hasFiles" . }}
- {name: files, mountPath: /etc/em-gate, readOnly: true}
{{- end }}
{{- end -}}

{{- define "em-gate.hasFiles" -}}
{{- if or .Values.files.policies .Values.files.judge .Values.files.hooks }}yes{{ end -}}
{{- end -}}

{{- define "em-gate.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.tmpSizeLimit }}}
- name: cache
  emptyDir: {sizeLimit: {{ .Values.cacheSizeLimit }}}
{{- if include "em-gate.hasFiles" . }}
- name: files
  configMap:
    name: {{ include "em-gate.fullname" . }}-files
    items:
    {{- range $name, $_ := .Values.files.policies }}
    - {key: policies.{{ $name }}, path: policies/{{ $name }}}
    {{- end }}
    {{- range $name, $_ := .Values.files.judge }}
    - {key: judge.{{ $name }}, path: judge/{{ $name }}}
    {{- end }}
    {{- if .Values.files.hooks }}
    - {key: hooks.yaml, path: hooks.yaml}
    {{- end }}
{{- end }}
{{- end -}}

{{/* What API and engine workers share: uploads and fetched checkpoints. */}}
{{- define "em-gate.sharedHome" -}}
- name: home
{{- if .Values.home.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.home.existingClaim }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.home.sizeLimit }}}
{{- end }}
{{- end -}}

{{- define "em-gate.ownHome" -}}
- name: home
  emptyDir: {sizeLimit: {{ .Values.home.sizeLimit }}}
{{- end -}}

{{/*
A pod for one command on the database: the migrations, and the first API key. It comes before the
other objects of the release, so it uses none of them. Takes root and command.
*/}}
{{- define "em-gate.administrationPod" -}}
{{ include "em-gate.podSecurity" .root }}
restartPolicy: Never
containers:
- name: emgate
  image: {{ include "em-gate.image" (dict "root" .root "device" "cpu") }}
  imagePullPolicy: {{ .root.Values.images.cpu.pullPolicy }}
  command: {{ toJson .command }}
  env:
  - {name: HOME, value: /tmp}
  - {name: GATE_HOME, value: /tmp/em-gate}
  {{- include "em-gate.databaseVariable" .root | nindent 2 }}
  securityContext: {{- include "em-gate.containerSecurity" .root | nindent 4 }}
  resources: {{- toYaml .root.Values.migrations.resources | nindent 4 }}
  volumeMounts:
  - {name: tmp, mountPath: /tmp}
volumes:
- name: tmp
  emptyDir: {sizeLimit: 1Gi}
{{- end -}}
