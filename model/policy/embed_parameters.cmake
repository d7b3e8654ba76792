# SPDX-License-Identifier: Apache-2.0
# cmake -DOUT=FILE.cpp -DFILE=PARAMETERS -DNAME=FUNCTION -DHEADER=FILE.h -P embed_parameters.cmake
# Writes a parameters file as a C++ array.
file(READ ${FILE} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
get_filename_component(name ${FILE} NAME)
string(CONCAT text "// Generated from model/policy/${name}.\n#include \"model/policy/${HEADER}\"\n\n"
         "namespace ballast::policy {\n\nstd::string_view ${NAME}() {\n"
         "  static const unsigned char bytes[] = {${bytes}};\n"
         "  return {reinterpret_cast<const char*>(bytes), ${size}};\n}\n\n}  // namespace ballast::policy\n")
file(WRITE ${OUT}.new "${text}")
file(RENAME ${OUT}.new ${OUT})
