#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "brick/base/metrics_server.h"
#include "brick/base/operation_metrics.h"

namespace voldfs {
namespace {

std::string name_of_test() { return "voldfs/test/" + std::to_string(::getpid()) + "/" + testing::UnitTest::GetInstance()->current_test_info()->name(); }

TEST(MetricsServerTest, Read_AnswersTheTextAndIsFound) {
  const std::string name = name_of_test();
  int calls = 0;
  auto server = MetricsServer::start(name, [&] { return "text " + std::to_string(++calls) + "\n" + std::string(1'000'000, 'x'); });
  ASSERT_TRUE(server);
  EXPECT_EQ(read_metrics(name, 10'000).value().substr(0, 7), "text 1\n");
  EXPECT_EQ(read_metrics(name, 10'000).value().size(), 1'000'007u);
  const auto all = metrics_servers();
  EXPECT_NE(std::find(all.begin(), all.end(), name), all.end());
  EXPECT_FALSE(MetricsServer::start(name, [] { return ""; }));  // the name is taken
  server->reset();
  EXPECT_FALSE(read_metrics(name, 1000));
  EXPECT_TRUE(MetricsServer::start(name, [] { return ""; }));
}

TEST(MetricsServerTest, Read_ByAnotherUser_IsHungUpOn) {
  const std::string name = name_of_test();
  const auto server = MetricsServer::start(name, [] { return "text"; });
  ASSERT_TRUE(server);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
    const auto got = read_metrics(name, 10'000);
    ::_exit(got ? 1 : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(ExpositionTest, Text_IsPrometheusFormat) {
  OperationMetrics counts;
  counts.add(0, 3, 0, 0);
  counts.add(5, 1'000'000, 0, 0);
  Exposition text("p_", label("brick", "a\"b"));
  text.family("x_total", "counter", "Help.");
  text.sample("x_total", label("op", "read"), 7);
  text.histogram("d", "", counts);
  const std::string out = text.take();
  EXPECT_EQ(out.substr(0, 72), "# HELP p_x_total Help.\n# TYPE p_x_total counter\np_x_total{brick=\"a\\\"b\",o");
  EXPECT_NE(out.find("p_d_bucket{brick=\"a\\\"b\",le=\"4\"} 1\n"), std::string::npos) << out;
  EXPECT_NE(out.find("le=\"+Inf\"} 2\n"), std::string::npos);
  EXPECT_NE(out.find("p_d_sum{brick=\"a\\\"b\"} 1000003\n"), std::string::npos);
}

}  // namespace
}  // namespace voldfs
