package main

import (
	"github.com/spf13/cobra"

	"jmlbridge/internal/command"
	"jmlbridge/internal/liveness"
)

func (a *app) aliveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "alive",
		Short: "Say by the exit code whether the consumer works, from its liveness file",
		Long: `alive looks at the liveness file alone: exit code 0 when "run" has rewritten it within three of its
intervals, 1 when not. It is for a container's health check or a supervisor, which would start the program
again; whether something needs a person is what "status --check" says.`,
		Example: `  consumer -c consumer.yaml alive`,
		GroupID: "ops",
		Args:    command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := loadConfig(a.configFile)
			if err != nil {
				return err
			}
			return liveness.Check(cfg.Liveness.File, a.now())
		},
	}
}
