// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/external_client.h"

#include <fmt/format.h>

#include <chrono>
#include <sstream>

#include "core/base/file.h"

namespace ballast::lab {

Result<ClientRequests> parse_client_result(const std::string& text, const std::string& file) {
  ClientRequests out;
  std::istringstream lines(text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream fields(line);
    if (line.starts_with("end ")) {
      std::size_t told = 0;
      if (fields.ignore(4) >> told && told == out.answers.size() && lines.peek() == EOF) {
        return out;
      }
      return Error::failed(
          fmt::format("{}:{}: \"{}\" after {} requests", file, number, line, out.answers.size()));
    }
    std::uint64_t at_us = 0;
    std::uint64_t latency_us = 0;
    int good = -1;
    if (!(fields >> at_us >> latency_us >> good) || good < 0 || good > 1) {
      return Error::failed(fmt::format("{}:{}: not \"US US 1|0\": \"{}\"", file, number, line));
    }
    out.arrivals.push_back({at_us * 1000, 0, 0});
    out.answers.push_back({good == 1 ? Outcome::kOk : Outcome::kError, latency_us * 1000, 0});
  }
  return Error::failed(fmt::format(
      "{} ends in the middle, after {} lines: no \"end N\"; no figure is made of it", file, number));
}

Result<ExternalClient> ExternalClient::start(const std::string& command, std::vector<std::string> env,
                                             const std::filesystem::path& folder) {
  ProcessOptions options;
  std::istringstream words(command);
  for (std::string word; words >> word;) {
    options.argv.push_back(word);
  }
  if (options.argv.empty()) {
    return Error::usage("--client: no command");
  }
  options.env = std::move(env);
  options.env.push_back("BALLAST_LAB_RESULT=" + (folder / "client.txt").string());
  options.output = folder / "client.log";
  auto process = ChildProcess::spawn(options);
  if (!process) {
    return process.error().in("--client");
  }
  return ExternalClient(std::move(*process), folder);
}

Result<ClientRequests> ExternalClient::result() {
  const auto ended = process_.wait(std::chrono::milliseconds(0));
  if (!ended || ended->code != 0) {
    const auto read = read_file(folder_ / "client.log");
    const std::string log = read ? *read : std::string();
    return Error::failed(fmt::format("the client ended with code {}: {}", ended ? ended->code : -1,
                                     log.substr(log.size() > 2000 ? log.size() - 2000 : 0)));
  }
  const auto file = folder_ / "client.txt";
  const auto text = read_file(file);
  return text ? parse_client_result(*text, file.string()) : Result<ClientRequests>(text.error());
}

}  // namespace ballast::lab
