#include "tools/ctl/command.h"

#include <iostream>

namespace voldfs::ctl {
namespace {

std::string dump(const nlohmann::json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

int print(const Explained<Report>& report, bool as_json) {
  if (!report) {
    if (as_json) std::cout << dump({{"error", report.error()}});
    std::cerr << "voldctl: " << report.error() << '\n';
    return kExitFailed;
  }
  std::cout << (as_json ? dump(report->json) : report->text) << std::flush;
  if (std::cout) return kExitDone;
  std::cerr << "voldctl: The output could not be written.\n";
  return kExitFailed;
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app("Administers voldfs volumes.", "voldctl");
  app.fallthrough();  // --json may stand behind the verb
  app.require_subcommand(1);
  bool as_json = false;
  app.add_flag("--json", as_json, "Print JSON, for programs");
  Chosen chosen;
  add_map_commands(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;  // 0: --help, --version
  }
  return print(chosen.action(), as_json);
}

}  // namespace voldfs::ctl
