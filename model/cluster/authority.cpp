// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/authority.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <utility>

#include "model/cluster/openssl.h"

namespace ballast::cluster {

namespace {

using Time = std::chrono::system_clock::time_point;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Memory = std::unique_ptr<BIO, Freed<BIO_free_all>>;

std::string text_of(BIO* memory) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  return {data, static_cast<std::size_t>(size)};
}
std::string pem_of(EVP_PKEY* key) {
  const Memory memory(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_PKCS8PrivateKey(memory.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return text_of(memory.get());
}
std::string pem_of(X509* certificate) {
  const Memory memory(::BIO_new(::BIO_s_mem()));
  ::PEM_write_bio_X509(memory.get(), certificate);
  return text_of(memory.get());
}
Key key_of(const std::string& pem) {
  const Memory memory(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Key(::PEM_read_bio_PrivateKey(memory.get(), nullptr, nullptr, nullptr));
}
Certificate certificate_of(const std::string& pem) {
  const Memory memory(::BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Certificate(::PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr));
}

Time time_of(const ASN1_TIME* time) {
  std::tm parts{};
  ::ASN1_TIME_to_tm(time, &parts);
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}
Time begin_of(X509* certificate) {
  return time_of(::X509_get0_notBefore(certificate));
}
Time end_of(X509* certificate) {
  return time_of(::X509_get0_notAfter(certificate));
}

bool extend(X509* certificate, X509* issuer, int what, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = ::X509V3_EXT_conf_nid(nullptr, &context, what, value.c_str());
  const bool done = extension != nullptr && ::X509_add_ext(certificate, extension, -1) == 1;
  ::X509_EXTENSION_free(extension);
  return done;
}

/// A certificate for `key`, of `issuer` (its own where that is null), with the extensions.
Certificate make(EVP_PKEY* key, const std::string& name, std::chrono::hours life, X509* issuer,
                 EVP_PKEY* signer, const std::vector<std::pair<int, std::string>>& extensions) {
  Certificate made(::X509_new());
  std::uint64_t serial = 0;
  ::RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial);
  ::X509_set_version(made.get(), 2);
  ::ASN1_INTEGER_set_uint64(::X509_get_serialNumber(made.get()), serial >> 1);
  // Clocks of nodes are not all right to the minute.
  ::X509_gmtime_adj(X509_getm_notBefore(made.get()), -300);
  ::X509_gmtime_adj(X509_getm_notAfter(made.get()), std::chrono::seconds(life).count());
  ::X509_set_pubkey(made.get(), key);
  ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509* by = issuer == nullptr ? made.get() : issuer;
  ::X509_set_issuer_name(made.get(), ::X509_get_subject_name(by));
  bool whole = true;
  for (const auto& [what, value] : extensions) {
    whole = whole && extend(made.get(), by, what, value);
  }
  return whole && ::X509_sign(made.get(), signer, ::EVP_sha256()) > 0 ? std::move(made) : nullptr;
}

}  // namespace

Authority::Authority(kube::Client& client, AuthorityOptions options, TempDir folder)
    : options_(std::move(options)),
      secret_(client, StoredObject::Kind::kSecret, options_.ns, "ballast-ca"),
      published_(client, StoredObject::Kind::kConfigMap, options_.ns, "ballast-ca"),
      folder_(std::move(folder)) {}

Result<Authority> Authority::open(kube::Client& client, AuthorityOptions options) {
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-ca-");
  if (!folder) {
    return folder.error();
  }
  Authority authority(client, std::move(options), std::move(*folder));
  if (auto done = authority.refresh(); !done) {
    return done.error();
  }
  return authority;
}

sync::TlsFiles Authority::files() const {
  return {.certificate = folder_.path() / "tls.crt", .key = folder_.path() / "tls.key"};
}

Status Authority::load_or_make() {
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto stored = secret_.read();
    if (!stored) {
      return stored.error().in("certificate authority");
    }
    auto& data = stored->data;
    const Certificate newest = certificate_of(data["ca.crt"]);
    const bool whole = newest != nullptr && key_of(data["ca.key"]) != nullptr;
    const auto now = std::chrono::system_clock::now();
    if (whole && now < end_of(newest.get()) - options_.life / 3) {
      newest_ = {data["ca.crt"], data["ca.key"]};
      before_ = {data["before.crt"], data["before.key"]};
      return ok();
    }
    const Key key(::EVP_EC_gen("P-256"));
    const Certificate made =
        make(key.get(), fmt::format("ballast-ca {:%F}", fmt::gmtime(now)), options_.life, nullptr, key.get(),
             {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
              {NID_key_usage, "critical,keyCertSign,cRLSign"},
              {NID_subject_key_identifier, "hash"}});
    if (made == nullptr) {
      return Error::failed("certificate authority: no certificate could be made");
    }
    Stored next{{{"ca.crt", pem_of(made.get())}, {"ca.key", pem_of(key.get())}}, {}};
    if (whole) {
      next.data["before.crt"] = data["ca.crt"];
      next.data["before.key"] = data["ca.key"];
    }
    const auto written = secret_.write(next);
    if (!written) {
      return written.error().in("certificate authority");
    }
    spdlog::info("certificate authority made object={} successor={}", secret_.path(), whole);
  }
  return Error::failed("certificate authority: " + secret_.path() + " is written by others all the time");
}

Status Authority::publish() {
  auto there = published_.read();
  if (!there) {
    return there.error().in("certificate authority");
  }
  const Stored wanted{{{"ca.crt", newest_.certificate + before_.certificate}}, {}};
  if (there->data == wanted.data) {
    return ok();
  }
  const auto written = published_.write(wanted);
  return written ? ok() : Status(written.error().in("certificate authority"));
}

Status Authority::sign() {
  const auto now = std::chrono::system_clock::now();
  const Certificate newest = certificate_of(newest_.certificate);
  const Certificate before = certificate_of(before_.certificate);
  const bool early =
      before != nullptr && now < begin_of(newest.get()) + options_.overlap && now < end_of(before.get());
  const Pair& by = early ? before_ : newest_;
  if (signed_by_ == by.certificate && now < leaf_until_ - options_.leaf_life / 2) {
    return ok();
  }
  const Certificate issuer = certificate_of(by.certificate);
  const Key signer = key_of(by.key);
  const Key key(::EVP_EC_gen("P-256"));
  std::string names;
  for (const std::string& name : options_.names) {
    names += (names.empty() ? "DNS:" : ",DNS:") + name;
  }
  const Certificate leaf =
      signer == nullptr ? nullptr
                        : make(key.get(), "ballast-global", options_.leaf_life, issuer.get(), signer.get(),
                               {{NID_basic_constraints, "critical,CA:FALSE"},
                                {NID_key_usage, "critical,digitalSignature"},
                                {NID_ext_key_usage, "serverAuth"},
                                {NID_subject_alt_name, names}});
  if (leaf == nullptr) {
    return Error::failed("certificate authority: " + secret_.path() + " holds a key that does not sign");
  }
  for (const auto& [name, bytes] :
       {std::pair{"tls.key", pem_of(key.get())}, std::pair{"tls.crt", pem_of(leaf.get())}}) {
    if (auto written = write_file_atomic(folder_.path() / name, bytes); !written) {
      return written;
    }
  }
  signed_by_ = by.certificate;
  leaf_until_ = end_of(leaf.get());
  return ok();
}

Status Authority::refresh() {
  for (const auto step : {&Authority::load_or_make, &Authority::publish, &Authority::sign}) {
    if (auto done = (this->*step)(); !done) {
      return done;
    }
  }
  return ok();
}

}  // namespace ballast::cluster
