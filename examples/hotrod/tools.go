// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package tools pins HotROD, which its module's excludes keep `go install` from building.
package tools

import _ "github.com/jaegertracing/jaeger/examples/hotrod"
