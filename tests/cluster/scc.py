#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scc.py < MANIFESTS: would OpenShift let the pods of these manifests in? For each DaemonSet, Deployment and Job, what its
pods ask for against the SecurityContextConstraints that are given to their account in the same manifests, by the rules of
OpenShift's admission: volumes, capabilities, the host's namespaces and folders, privilege, a read-only root, seccomp.
Prints what is asked for and not allowed. Exit code 1 where there is something, or no pod at all."""
import sys

import yaml

SOURCES = {'configMap', 'emptyDir', 'hostPath', 'projected', 'secret', 'downwardAPI', 'persistentVolumeClaim', 'csi', 'ephemeral', 'nfs'}


def asked(pod, allowed):
    for volume in pod.get('volumes', []):
        for kind in SOURCES & volume.keys():
            if kind not in allowed['volumes'] or (kind == 'hostPath' and not allowed['allowHostDirVolumePlugin']):
                yield f'volume {volume["name"]} of {kind}'
    for field, name in (('hostPID', 'allowHostPID'), ('hostIPC', 'allowHostIPC'), ('hostNetwork', 'allowHostNetwork')):
        if pod.get(field) and not allowed[name]:
            yield field
    for container in pod.get('initContainers', []) + pod['containers']:
        name, context = container['name'], {**pod.get('securityContext', {}), **container.get('securityContext', {})}
        for capability in context.get('capabilities', {}).get('add', []):
            if capability not in (allowed.get('allowedCapabilities') or []) + (allowed.get('defaultAddCapabilities') or []):
                yield f'{name}: capability {capability}'
        if context.get('privileged') and not allowed['allowPrivilegedContainer']:
            yield f'{name}: privileged'
        if context.get('allowPrivilegeEscalation', True) and not allowed.get('allowPrivilegeEscalation', True):
            yield f'{name}: privilege escalation'
        if allowed['readOnlyRootFilesystem'] and not context.get('readOnlyRootFilesystem'):
            yield f'{name}: a root file system that can be written'
        for port in container.get('ports', []):
            if port.get('hostPort') and not allowed['allowHostPorts']:
                yield f'{name}: port {port["hostPort"]} of the host'
        kind = context.get('seccompProfile', {}).get('type', 'Unconfined')
        profile = {'RuntimeDefault': 'runtime/default', 'Unconfined': 'unconfined'}.get(kind, kind)
        if profile not in (allowed.get('seccompProfiles') or []):
            yield f'{name}: seccomp {profile}'
        for field, kind, values in (('runAsUser', 'runAsUser', 'uid'), ('seLinuxOptions', 'seLinuxContext', 'seLinuxOptions')):
            rule = allowed[kind]
            if context.get(field) is not None and rule['type'] not in ('RunAsAny', 'MustRunAsNonRoot') and rule.get(values) != context[field]:
                yield f'{name}: {field} {context[field]}'
            if field == 'runAsUser' and rule['type'] == 'MustRunAsNonRoot' and context.get(field) == 0:
                yield f'{name}: root'


def main():
    objects = [o for o in yaml.safe_load_all(sys.stdin) if o]
    constraints = [o for o in objects if o['kind'] == 'SecurityContextConstraints']
    pods, wrong = 0, []
    for o in objects:
        if o['kind'] not in ('DaemonSet', 'Deployment', 'Job'):
            continue
        pods += 1
        pod, name = o['spec']['template']['spec'], f'{o["kind"]} {o["metadata"]["name"]}'
        account = f'system:serviceaccount:{o["metadata"]["namespace"]}:{pod.get("serviceAccountName", "default")}'
        given = [c for c in constraints if account in c.get('users', [])]
        answers = [list(asked(pod, c)) for c in given]
        if not given:
            wrong.append(f'{name}: no constraints are given to {account}')
        elif all(answers):
            wrong += [f'{name}: {one}' for one in answers[0]]
    print(f'{pods} kinds of pods', *wrong, sep='\n')
    sys.exit(bool(wrong) or not pods)


main()
