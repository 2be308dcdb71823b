#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"

namespace voldfs {

// Answers every HTTP request with one text, on a unix socket in the abstract namespace (unix(7)): no file is left behind,
// whatever ends the process, and who looks for the daemons of a host finds them in /proc/net/unix. Lets in root, and members
// of the group voldfs-metrics. One client at a time, each with a time limit. Any thread.
class MetricsServer {
 public:
  // The socket's name, behind the NUL byte that begins it: "voldfs/brick/ID/PID", "voldfs/mount/PID".
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& name, std::function<std::string()> text);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

 private:
  MetricsServer(unique_fd listener, unique_fd wake, std::function<std::string()> text);
  void run();
  void answer(int client) const;

  const unique_fd listener_, wake_;
  const std::function<std::string()> text_;
  std::thread thread_;
};

// What the server of that name answers now; the names of all that this host (its network namespace) has.
Result<std::string> read_metrics(const std::string& name, int timeout_ms);
std::vector<std::string> metrics_servers();

}  // namespace voldfs
