#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# deploy/image/sign.sh KEY.pem FILE...: beside each file its signature, FILE.sig (base64; ECDSA by SHA-256 with a P-256
# key), as `cosign verify-blob --key PUB.pem --signature FILE.sig FILE` and `openssl dgst` take it. With --check and the
# public key it verifies: exit code 1 where one is not of that key.
set -euo pipefail
usage() { echo "usage: deploy/image/sign.sh KEY.pem FILE... | --check PUB.pem FILE..." >&2; exit 2; }
check=false
[ "${1:-}" != --check ] || { check=true; shift; }
[ $# -ge 2 ] || usage
key=$1
shift
[ -r "$key" ] || { echo "sign: $key cannot be read" >&2; exit 2; }
for file in "$@"; do
  if $check; then
    openssl dgst -sha256 -verify "$key" -signature <(base64 -d "$file.sig") "$file" >/dev/null ||
      { echo "sign: $file.sig is not of $key, or $file is another" >&2; exit 1; }
  else
    openssl dgst -sha256 -sign "$key" "$file" | base64 -w0 >"$file.sig.new"
    mv "$file.sig.new" "$file.sig"
  fi
done
