# SPDX-License-Identifier: Apache-2.0
# cmake -DOUT=FILE.cpp -DFILE=PARAMETERS -P embed_parameters.cmake
# Writes a parameters file as a C++ array.
file(READ ${FILE} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(CONCAT text "// Generated from model/policy/shipped.bin.\n#include \"model/policy/shipped.h\"\n\n"
         "namespace ballast::policy {\n\nstd::string_view shipped() {\n"
         "  static const unsigned char bytes[] = {${bytes}};\n"
         "  return {reinterpret_cast<const char*>(bytes), ${size}};\n}\n\n}  // namespace ballast::policy\n")
file(WRITE ${OUT}.new "${text}")
file(RENAME ${OUT}.new ${OUT})
