# SPDX-License-Identifier: Apache-2.0
# cmake -DOUT=FILE.cpp -DFOLDER=DIR -DPREFIX=PATH -P embed_scenarios.cmake
# Writes the scenarios of a folder as C++ strings. A scenario's name is its file's without the
# leading number that orders it.
file(GLOB files ${FOLDER}/*.yaml)
list(SORT files)
string(CONCAT text "// Generated from ${PREFIX}.\n#include \"model/sim/scenario.h\"\n\nnamespace ballast::sim {\n\n"
         "const std::vector<BuiltinScenario>& builtin_scenarios() {\n"
         "  static const std::vector<BuiltinScenario> all = {\n")
foreach(path IN LISTS files)
  get_filename_component(file ${path} NAME)
  string(REGEX REPLACE "^[0-9]+_|\\.yaml$" "" name ${file})
  file(READ ${path} content)
  string(APPEND text "      {\"${name}\", \"${PREFIX}/${file}\", R\"yaml(${content})yaml\"},\n")
endforeach()
string(APPEND text "  };\n  return all;\n}\n\n}  // namespace ballast::sim\n")
file(WRITE ${OUT}.new "${text}")
file(RENAME ${OUT}.new ${OUT})
