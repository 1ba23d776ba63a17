package main

import (
	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/liveness"
)

func (a *app) aliveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "alive",
		Short: "Say by the exit code whether the producer works, from its liveness file",
		Long: `alive looks at the liveness file alone: exit code 0 when "run" has rewritten it lately, 1 when not. It is
for a container's health check or a supervisor. A mid-point that is away does not count: messages wait.`,
		Example: `  producer -c producer.yaml alive`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			return liveness.Check(cfg.Liveness, a.now())
		},
	}
}
