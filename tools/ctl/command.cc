#include "tools/ctl/command.h"

#include <iostream>
#ifdef VOLDFS_HAVE_MGMT
#include "tools/ctl/state_source.h"
#endif

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
  if (!report->printed) std::cout << (as_json ? dump(report->json) : report->text) << std::flush;
  if (!report->note.empty()) std::cerr << "voldctl: " << report->note << '\n';
  if (std::cout) return report->exit_code;
  std::cerr << "voldctl: The output could not be written.\n";
  return kExitFailed;
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app("Administers voldfs volumes.", "voldctl");
  app.fallthrough();  // --json may stand behind the verb
  app.require_subcommand(1);
  bool as_json = false;
  app.set_version_flag("--version", "voldctl " VOLDFS_VERSION);
  app.add_flag("--json", as_json, "Print JSON, for programs");
  Chosen chosen;
  add_map_commands(app, chosen);
  add_brick_commands(app, chosen);
#ifdef VOLDFS_HAVE_MGMT
  const auto place = std::make_shared<Place>();
  std::string mode = "interactive";
  app.add_option("--run-dir", place->run_dir, "Where voldmgmt's socket is")->type_name("DIR")->envname("VOLDFS_RUN_DIR");
  app.add_option("--state-dir", place->state_dir, "voldmgmt's state, for when it does not run")->type_name("DIR")->envname("VOLDFS_STATE_DIR");
  app.add_option("--conf-dir", place->conf_dir, "voldmgmt's configuration, for `doctor` when it does not run")->type_name("DIR")->envname("VOLDFS_CONF_DIR");
  app.add_option("--mode", mode, "script: no questions are asked")->type_name("MODE")->check(CLI::IsMember({"script", "interactive"}));
  app.add_flag("-y,--yes", place->script, "The answer to every question");
  add_volume_commands(app, chosen, place);
  add_peer_commands(app, chosen, place);
  add_cluster_commands(app, chosen, place);
#endif
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitUsage;  // 0: --help, --version
  }
#ifdef VOLDFS_HAVE_MGMT
  if (mode == "script") place->script = true;
  place->json = as_json;
#endif
  try {
    return print(chosen.action(), as_json);
  } catch (const std::exception& error) {  // what another program answered or wrote is not as it should be
    return print(explain(std::string("The answer was not understood: ") + error.what()), as_json);
  }
}

}  // namespace voldfs::ctl
