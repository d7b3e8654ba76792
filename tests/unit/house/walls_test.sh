#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The wall between rooms holds: a room that sees to its right, climbs with "..", or includes a room
# that it did not name does not configure or does not build; the same room built by the rules does. Nor
# do core/, agent/ and model/ see each other but as they may.
set -euo pipefail
source_dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# project NAME SEES INCLUDE: core/base and agent/guard are rooms; so is $room, which has one source.
room=agent/fleet
project() {
  local root=$work/$1
  mkdir -p "$root"/core/base "$root"/agent/guard "$root/$room" "$root/build"
  echo '#pragma once' | tee "$root/core/base/base.h" >"$root/agent/guard/guard.h"
  printf '#include "%s"\nint fleet_answer() { return 1; }\n' "$3" >"$root/$room/fleet.cpp"
  cat >"$root/CMakeLists.txt" <<EOF
cmake_minimum_required(VERSION 3.25)
project(walls LANGUAGES CXX)
find_package(Threads REQUIRED)
include($source_dir/cmake/rooms.cmake)
ballast_room(core/base)
ballast_room($room SOURCES $room/fleet.cpp SEES $2)
ballast_room(agent/guard)
EOF
  cmake -S "$root" -B "$root/build" -G Ninja >"$root/log" 2>&1 && cmake --build "$root/build" >>"$root/log" 2>&1
}

expect_refused() {
  local name=$1 reason=$2
  shift 2
  if project "$name" "$@"; then
    echo "FAIL: $name was built"
    exit 1
  fi
  grep -q "$reason" "$work/$name/log" || { echo "FAIL: $name: no '$reason' in:"; cat "$work/$name/log"; exit 1; }
  echo "refused: $name"
}

project by_the_rules core/base core/base/base.h || { cat "$work/by_the_rules/log"; exit 1; }
expect_refused sees_to_its_right "not to its left" "core/base agent/guard" core/base/base.h
expect_refused includes_unseen "No such file" core/base agent/guard/guard.h
expect_refused climbs "includes across rooms" core/base ../guard/guard.h
room=model/net
expect_refused model_sees_agent "meet in core/" agent/guard agent/guard/guard.h
room=model/sim
project between_the_houses agent/guard agent/guard/guard.h || { cat "$work/between_the_houses/log"; exit 1; }
room=agent/fleet
expect_refused unknown_room "not to its left" agent/nowhere core/base/base.h
