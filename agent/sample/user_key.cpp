// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/user_key.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "agent/sample/span.h"
#include "core/base/file.h"

namespace ballast::sample {

namespace {

/// A field's name is a token (RFC 9110, 5.1).
bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || kMarks.find(static_cast<char>(c)) != std::string_view::npos);
  });
}

options::Wrong header_form(const std::string& text) {
  return text.empty() || is_token(text)
             ? std::nullopt
             : options::Wrong("\"" + text + "\" is no name of a header; give one as x-user-id");
}

options::Wrong key_form(const std::string& path) {
  if (path.empty()) {
    return std::nullopt;
  }
  struct ::stat found {};
  if (::stat(path.c_str(), &found) != 0 || !S_ISREG(found.st_mode)) {
    return "there is no file " + path;
  }
  if ((found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return "others than its owner can reach " + path + "; chmod 600 it";
  }
  return static_cast<std::size_t>(found.st_size) >= UserKey::kLeastKey
             ? std::nullopt
             : options::Wrong(path + " holds fewer than " + std::to_string(UserKey::kLeastKey) +
                              " bytes; make one by: head -c 32 /dev/urandom");
}

}  // namespace

void UserOptions::declare(options::Schema& s) {
  s.section("spans");
  s.text("user_header", header, "NAME", "header that says whose a request is, kept as a hash; empty: off",
         header_form);
  s.path("user_key_file", key_file, "FILE", "key of that hash, readable by its owner alone", key_form);
  s.rule({"user_header", "user_key_file"}, [this]() -> options::Wrong {
    return header.empty() == key_file.empty()
               ? std::nullopt
               : options::Wrong("spans.user_header and spans.user_key_file go together; give both or none");
  });
}

Result<UserKey> UserKey::open(const UserOptions& options) {
  UserKey made;
  if (options.header.empty()) {
    return made;
  }
  if (const options::Wrong wrong = key_form(options.key_file.string())) {
    return Error::usage("spans.user_key_file: " + *wrong);
  }
  auto key = read_file(options.key_file);
  if (!key) {
    return key.error().in("spans.user_key_file");
  }
  made.header_ = options.header;
  std::ranges::transform(made.header_, made.header_.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  made.key_ = std::move(*key);
  return made;
}

std::string UserKey::of(std::string_view value) const {
  if (key_.empty() || value.empty()) {
    return "";
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> print{};
  ::HMAC(::EVP_sha256(), key_.data(), static_cast<int>(key_.size()),
         reinterpret_cast<const unsigned char*>(value.data()), value.size(), print.data(), nullptr);
  return hex(std::string_view(reinterpret_cast<const char*>(print.data()), 8));
}

}  // namespace ballast::sample
